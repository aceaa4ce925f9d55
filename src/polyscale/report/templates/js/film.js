// @ts-check
// The film strip: every image, sorted and filtered; the server has put them into the default order.

/**
 * @param {(index: number) => void} choose
 */
function setUpFilm(choose) {
  const list = element("film-list");
  const sort = /** @type {HTMLSelectElement} */ (element("film-sort"));
  const clear = element("film-clear");
  /** @type {Map<number, HTMLElement>} */
  const cards = new Map();
  for (const card of list.querySelectorAll("li")) cards.set(Number(card.dataset.index), card);
  /** @type {[number, number] | null} */
  let mistake = null;
  let shown = page.order;
  let current = -1;

  const button = (/** @type {number} */ index) => /** @type {HTMLButtonElement} */ (cards.get(index)?.querySelector("button"));

  const arrange = () => {
    shown = mistake ? withMistake(mistake) : sortedImages(sort.value);
    const visible = new Set(shown);
    for (const [index, card] of cards) card.hidden = !visible.has(index);
    list.append(...shown.map((index) => /** @type {HTMLElement} */ (cards.get(index))));
    for (const index of shown) note(index);
    clear.hidden = !mistake;
    setTabStop();
    list.scrollLeft = 0;
    element("film-words").textContent = mistake
      ? `${shown.length} images with ${page.classes[mistake[0]]} taken for ${page.classes[mistake[1]]}, the most first`
      : `${shown.length} images`;
  };

  /** The number under a card that its order is by. @param {number} index */
  const note = (index) => {
    const line = /** @type {HTMLElement} */ (cards.get(index)?.querySelector(".note"));
    line.textContent = mistake ? mistakeText(index, mistake) : noteText(index, sort.value);
  };

  // One card can be reached by Tab, the others by the arrows.
  const setTabStop = () => {
    const stop = shown.includes(current) ? current : shown[0];
    for (const index of cards.keys()) button(index).tabIndex = index === stop ? 0 : -1;
  };

  sort.addEventListener("change", () => {
    mistake = null;
    arrange();
  });
  clear.addEventListener("click", () => {
    mistake = null;
    arrange();
    sort.focus();
  });
  list.addEventListener("click", (event) => {
    const card = /** @type {HTMLElement} */ (event.target).closest("li");
    if (card) choose(Number(card.dataset.index));
  });
  list.addEventListener("keydown", (event) => {
    const steps = /** @type {Record<string, number>} */ ({ ArrowRight: 1, ArrowLeft: -1, Home: -shown.length, End: shown.length });
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    const place = shown.findIndex((index) => button(index) === document.activeElement);
    button(shown[Math.min(shown.length - 1, Math.max(0, place + step))]).focus();
  });
  arrange();
  return {
    /** @param {[number, number]} pair true and predicted class */
    filter(pair) {
      mistake = pair;
      arrange();
    },
    /** @param {number} index */
    mark(index) {
      current = index;
      for (const [other] of cards) button(other).setAttribute("aria-current", String(other === index));
      setTabStop();
      const card = /** @type {HTMLElement} */ (cards.get(index));
      list.scrollTo({ left: card.offsetLeft - list.clientWidth / 2 + card.clientWidth / 2, behavior: "auto" });
    },
    /** The next image that can be shown. @param {number} by */
    next(by) {
      const possible = shown.filter((index) => page.images[index].stored);
      const place = possible.indexOf(current);
      return possible[(place + by + possible.length) % possible.length];
    },
    /** @returns {number[]} */
    get shown() {
      return shown;
    },
  };
}

/**
 * @param {[number, number]} pair
 * @returns {number[]}
 */
function withMistake(pair) {
  const pixels = new Map(
    page.images.map((image, index) => [index, image.mistakes.find(([t, p]) => t === pair[0] && p === pair[1])?.[2] ?? 0]),
  );
  const found = [...pixels.keys()].filter((index) => pixels.get(index));
  return found.sort((a, b) => Number(pixels.get(b)) - Number(pixels.get(a)));
}

/**
 * @param {string} key "default", "score", "gain", "loss", "confident", "name" or "class-3"
 * @returns {number[]}
 */
function sortedImages(key) {
  if (key === "default") return page.order;
  const value = (/** @type {number} */ index) => {
    const image = page.images[index];
    if (key.startsWith("class-")) return image.iou[Number(key.slice(6))];
    if (key === "gain") return image.gain === null ? null : -image.gain;
    if (key === "loss") return image.gain;
    if (key === "confident") return image.confident === null ? null : -image.confident;
    return image.score;
  };
  const all = page.images.map((_, index) => index);
  if (key === "name") return all.sort((a, b) => (page.images[a].name < page.images[b].name ? -1 : 1));
  const known = all.filter((index) => value(index) !== null);
  return known.sort((a, b) => Number(value(a)) - Number(value(b)) || a - b);
}

/**
 * @param {number} index
 * @param {string} key
 */
function noteText(index, key) {
  const image = page.images[index];
  const gain = image.gain === null ? "" : ` · ${signedText(image.gain)} over ${page.rival.name}`;
  if (key.startsWith("class-")) return `${page.classes[Number(key.slice(6))]} ${image.iou[Number(key.slice(6))]} %`;
  if (key === "confident") return `${image.confident} % surely wrong`;
  return `mIoU ${image.score ?? "–"}${gain}`;
}

/**
 * @param {number} index
 * @param {[number, number]} pair
 */
function mistakeText(index, pair) {
  const found = page.images[index].mistakes.find(([t, p]) => t === pair[0] && p === pair[1]);
  return `${(found?.[2] ?? 0).toLocaleString("en")} pixels`;
}

/** @param {number} value */
function signedText(value) {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)}`;
}
