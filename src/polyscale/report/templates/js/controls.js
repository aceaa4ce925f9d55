// @ts-check
// The controls around the stage, and the keys.

/**
 * The stage with everything around it.
 * @param {Record<string, () => void>} keys more of them
 */
function setUpStage(keys) {
  const stage = new Stage(/** @type {HTMLCanvasElement} */ (element("stage")));
  const left = /** @type {HTMLSelectElement} */ (element("layer-left"));
  const right = /** @type {HTMLSelectElement} */ (element("layer-right"));
  const wipe = /** @type {HTMLInputElement} */ (element("wipe"));

  const redraw = () => {
    if (stage.picture) forgetLayers(stage.picture);
    stage.changed();
  };
  const setWipe = (/** @type {number} */ value) => {
    stage.wipe = value;
    wipe.value = String(Math.round(100 * value));
    stage.changed();
  };
  const fillLayers = () => {
    if (!stage.picture) return;
    const layers = layersOf(stage.picture);
    for (const [select, key] of /** @type {const} */ ([[left, stage.left], [right, stage.right]])) {
      select.replaceChildren(...layers.map((layer) => new Option(layer.title, layer.key, false, layer.key === key)));
    }
  };
  const setLayer = (/** @type {"left" | "right"} */ side, /** @type {string} */ key) => {
    stage[side] = key;
    fillLayers();
    stage.changed();
  };

  const classes = setUpClasses(redraw);
  setUpLoupe(stage);
  setUpPointer(stage, setWipe);
  setUpMixer(stage, (key) => setLayer("right", key));
  setUpControls({ stage, left, right, wipe, redraw, setWipe, setLayer });
  setUpKeys({ stage, classes, setWipe, setLayer, keys });
  return {
    stage,
    /** @param {Picture} picture */
    show(picture) {
      stage.show(picture);
      fillLayers();
    },
  };
}

/**
 * @param {{stage: Stage, left: HTMLSelectElement, right: HTMLSelectElement, wipe: HTMLInputElement, redraw: () => void,
 *   setWipe: (value: number) => void, setLayer: (side: "left" | "right", key: string) => void}} parts
 */
function setUpControls({ stage, left, right, wipe, redraw, setWipe, setLayer }) {
  left.addEventListener("change", () => setLayer("left", left.value));
  right.addEventListener("change", () => setLayer("right", right.value));
  wipe.addEventListener("input", () => setWipe(Number(wipe.value) / 100));
  const opacity = /** @type {HTMLInputElement} */ (element("opacity"));
  opacity.addEventListener("input", () => {
    choice.opacity = Number(opacity.value) / 100;
    redraw();
  });
  const names = /** @type {HTMLInputElement} */ (element("names"));
  names.addEventListener("change", () => {
    choice.names = names.checked;
    stage.changed();
  });
  const palette = /** @type {HTMLSelectElement} */ (element("palette"));
  palette.addEventListener("change", () => {
    usePalette(palette.value === "own" ? page.own : page.distinct);
    redraw();
  });
  element("zoom-in").addEventListener("click", () => stage.zoomBy(1.6));
  element("zoom-out").addEventListener("click", () => stage.zoomBy(1 / 1.6));
  element("zoom-fit").addEventListener("click", () => {
    stage.fit();
    stage.changed();
  });
  element("blink").addEventListener("click", () => blink(setWipe, stage));
}

let wipeBefore = 0.5;

/**
 * Show the left layer alone, then the right one alone.
 * @param {(value: number) => void} setWipe
 * @param {Stage} stage
 */
function blink(setWipe, stage) {
  if (stage.wipe > 0 && stage.wipe < 1) wipeBefore = stage.wipe;
  setWipe(stage.wipe === 1 ? 0 : 1);
}

/**
 * @param {{stage: Stage, classes: ReturnType<typeof setUpClasses>, setWipe: (value: number) => void,
 *   setLayer: (side: "left" | "right", key: string) => void, keys: Record<string, () => void>}} parts
 */
function setUpKeys({ stage, classes, setWipe, setLayer, keys: more }) {
  const help = /** @type {HTMLDialogElement} */ (element("help"));
  element("help-open").addEventListener("click", () => help.showModal());
  element("help-close").addEventListener("click", () => help.close());
  /** @type {Record<string, () => void>} */
  const keys = {
    ...more,
    b: () => blink(setWipe, stage),
    w: () => setWipe(wipeBefore),
    c: () => classes.step(1),
    C: () => classes.step(-1),
    t: () => element("names").click(),
    "+": () => stage.zoomBy(1.6),
    "=": () => stage.zoomBy(1.6),
    "-": () => stage.zoomBy(1 / 1.6),
    0: () => element("zoom-fit").click(),
    "[": () => setWipe(Math.max(0, stage.wipe - 0.05)),
    "]": () => setWipe(Math.min(1, stage.wipe + 0.05)),
    "?": () => help.showModal(),
  };
  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof Element && event.target.closest("input, select, textarea, dialog");
    if (event.ctrlKey || event.metaKey || event.altKey || typing) return;
    const digit = /^Digit([1-9])$/.exec(event.code);
    if (digit && stage.picture) {
      const layer = layersOf(stage.picture)[Number(digit[1]) - 1];
      if (layer) setLayer(event.shiftKey ? "left" : "right", layer.key);
    } else if (keys[event.key]) keys[event.key]();
    else return;
    event.preventDefault();
  });
  stage.canvas.addEventListener("keydown", (event) => {
    const steps = /** @type {Record<string, [number, number]>} */ ({
      ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1],
    });
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    if (event.altKey) stage.panBy(-40 * step[0], -40 * step[1]);
    else stage.pointBy(...(/** @type {[number, number]} */ (step.map((value) => value * (event.shiftKey ? 10 : 1)))));
  });
}
