// @ts-check
// What would have happened otherwise: scales forced, capped or removed, and the images fused anew.

/**
 * @param {Stage} stage
 * @param {(key: string) => void} showRight
 */
function setUpMixer(stage, showRight) {
  const box = document.getElementById("mixer");
  if (!box) return;
  const rows = [...box.querySelectorAll("fieldset")];
  const withLogits = page.order.filter((index) => page.images[index].logits);
  /** @type {Map<number, Promise<StoredView[]>>} */
  const views = new Map();
  let turn = 0;

  /** @returns {Record<string, Wish>} */
  const wishes = () =>
    Object.fromEntries(
      rows.map((row) => {
        const select = /** @type {HTMLSelectElement} */ (row.querySelector("select"));
        const range = /** @type {HTMLInputElement | null} */ (row.querySelector("input"));
        return [Number(row.dataset.scale), { kind: select.value, value: Number(range?.value ?? 0) / 100 }];
      }),
    );

  /**
   * @param {Picture} picture
   * @param {Record<string, Wish>} wanted
   */
  const mix = async (picture, wanted) => {
    const stored =
      views.get(picture.index) ||
      withViews(picture.index, picture.stored).then((whole) => readViews(whole, page.method));
    views.set(picture.index, stored);
    stored.catch(() => views.delete(picture.index));
    const wished = wishedViews(await stored, wanted);
    if (!wished.length) return null;
    const size = picture.stored.size;
    const classes = fuseClasses(wished, page.classes.length, size, page.fusion);
    const weights = meanWeights(wished, page.fusion, classes, size);
    return { classes, weights: new Map(wished.map((view, k) => [view.scale, weights[k]])) };
  };

  const score = (/** @type {Picture[]} */ shown, /** @type {(picture: Picture) => Uint8Array} */ read) => {
    const matrix = new Float64Array(page.classes.length ** 2);
    for (const picture of shown) addConfusion(/** @type {Grey} */ (picture.maps.get("truth")).data, read(picture), matrix);
    return matrixScore(matrix);
  };

  const shownScore = (/** @type {number} */ before, /** @type {number} */ after) =>
    `${after.toFixed(1)} (${after - before >= 0 ? "+" : "−"}${Math.abs(after - before).toFixed(1)})`;

  const update = async () => {
    const mine = ++turn;
    rows.forEach(showRow);
    const picture = stage.picture;
    if (!picture || !page.images[picture.index].logits) {
      element("mix-image").textContent = "no logits stored";
      return;
    }
    const mixed = await mix(picture, wishes());
    if (mine !== turn) return;
    if (!mixed) {
      say("At least one scale is needed.");
      return;
    }
    setMixed(picture, mixed.classes);
    const fused = (/** @type {Picture} */ one) => /** @type {Grey} */ (one.maps.get("fused")).data;
    for (const row of rows) {
      const weight = mixed.weights.get(Number(row.dataset.scale)) ?? 0;
      /** @type {HTMLElement} */ (row.querySelector("output.weight")).textContent = `${Math.round(100 * weight)} %`;
    }
    if (stage.right !== "mixed") showRight("mixed");
    stage.changed();
    if (!picture.maps.has("truth")) {
      // Against the same 8-bit logits fused as learnt, so that what is unchanged reads 0.
      const learnt = await mix(picture, {});
      if (mine !== turn || !learnt) return;
      const other = mixed.classes.reduce((sum, c, k) => sum + Number(c !== learnt.classes[k]), 0);
      element("mix-image").textContent = `${((100 * other) / mixed.classes.length).toFixed(1)} %`;
      return;
    }
    const before = score([picture], fused);
    element("mix-image").textContent = shownScore(before, score([picture], () => mixed.classes));
    await updateAll(mine, fused);
  };

  /**
   * @param {number} mine
   * @param {(picture: Picture) => Uint8Array} fused
   */
  const updateAll = async (mine, fused) => {
    const matrices = [0, 1].map(() => new Float64Array(page.classes.length ** 2));
    for (const index of withLogits) {
      const picture = await loadPicture(index);
      const mixed = await mix(picture, wishes());
      if (mine !== turn || !mixed) return;
      const truth = /** @type {Grey} */ (picture.maps.get("truth")).data;
      addConfusion(truth, fused(picture), matrices[0]);
      addConfusion(truth, mixed.classes, matrices[1]);
    }
    element("mix-all").textContent = shownScore(matrixScore(matrices[0]), matrixScore(matrices[1]));
  };

  /** @param {Picture} picture
   * @param {Uint8Array} classes */
  const setMixed = (picture, classes) => {
    picture.maps.set("mixed", { width: picture.width, height: picture.height, data: classes });
    forgetLayers(picture, "mixed");
  };

  /** @param {HTMLFieldSetElement} row */
  const showRow = (row) => {
    const select = /** @type {HTMLSelectElement} */ (row.querySelector("select"));
    const range = /** @type {HTMLInputElement} */ (row.querySelector("input"));
    const scales = Object.keys(stage.picture?.stored.logits ?? {}).map(Number);
    const scale = Number(row.dataset.scale);
    // The finest takes what the others leave.
    const finest = scale === Math.max(...scales);
    row.hidden = scales.length > 0 && !scales.includes(scale);
    row.classList.toggle("finest", finest);
    for (const option of select.options) option.hidden = finest && (option.value === "most" || option.value === "force");
    if (select.selectedOptions[0]?.hidden) select.value = "learnt";
    range.disabled = select.value === "learnt" || select.value === "without";
    /** @type {HTMLElement} */ (row.querySelector("output.wish")).textContent = range.disabled ? "" : (Number(range.value) / 100).toFixed(2);
  };

  // What lies beside the page may be missing.
  const updateOrSay = () => update().catch((error) => say(error.message));

  let later = 0;
  const soon = () => {
    clearTimeout(later);
    later = window.setTimeout(updateOrSay, 60);
  };
  box.addEventListener("input", soon);
  const preset = (/** @type {string} */ kind, /** @type {number} */ value) => {
    for (const row of rows) {
      const range = /** @type {HTMLInputElement} */ (row.querySelector("input"));
      const select = /** @type {HTMLSelectElement} */ (row.querySelector("select"));
      select.value = row.classList.contains("finest") ? "learnt" : kind;
      range.value = String(value);
    }
    updateOrSay();
  };
  element("mix-reset").addEventListener("click", () => preset("learnt", 50));
  element("mix-half").addEventListener("click", () => preset("force", 50));
  rows.forEach(showRow);
  // The next image is mixed as the reader wishes as soon as it is shown.
  let last = -1;
  stage.listeners.push(() => {
    const index = stage.picture?.index ?? -1;
    if (index === last) return;
    last = index;
    rows.forEach(showRow);
    const plain = Object.values(wishes()).every((wish) => wish.kind === "learnt");
    if (!plain) updateOrSay();
  });
}
