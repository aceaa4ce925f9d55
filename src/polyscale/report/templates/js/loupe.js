// @ts-check
// What all scales say of the pixel under the pointer: small windows around it, and one line of words.

const LOUPE_SIDE = 15;

/**
 * @param {Stage} stage
 */
function setUpLoupe(stage) {
  const box = element("loupe");
  const words = element("readout");
  /** @type {Map<string, {figure: HTMLElement, context: CanvasRenderingContext2D, caption: HTMLElement}>} */
  const windows = new Map();
  stage.listeners.push(() => {
    const { picture, pointed } = stage;
    if (!picture) return;
    const layers = layersOf(picture).filter((layer) => layer.kind === "photo" || layer.kind === "classes");
    for (const [key, { figure }] of windows) figure.hidden = !layers.some((layer) => layer.key === key);
    for (const layer of layers) {
      const place = windows.get(layer.key) || newWindow(box, layer.title);
      windows.set(layer.key, place);
      drawWindow(place.context, picture, layer, pointed);
      const known = pointed && layer.kind === "classes" ? picture.at(layer.key, ...pointed) : null;
      place.caption.textContent = known === null ? layer.title : `${layer.title}: ${className(known)}`;
    }
    words.textContent = pointed ? readOut(picture, ...pointed) : "Point at the image, or turn to it and use the arrow keys.";
  });
}

/**
 * Where to look first: a pixel in the midst of those that fusion rescued, else where it differs from its rival, else
 * the image's middle.
 * @param {Picture} picture
 * @returns {[number, number]}
 */
function tellingPixel(picture) {
  const [fused, rival, truth] = ["fused", page.rival.map, "truth"].map((name) => picture.maps.get(name)?.data);
  const found = [];
  for (let k = 0; fused && rival && k < fused.length; k++) {
    if (fused[k] !== rival[k] && (!truth || truth[k] === fused[k])) found.push(k);
  }
  const { width, height } = picture;
  const place = found.length ? found[found.length >> 1] : (height >> 1) * width + (width >> 1);
  return [place % width, Math.floor(place / width)];
}

/**
 * @param {HTMLElement} box
 * @param {string} title
 */
function newWindow(box, title) {
  const figure = document.createElement("figure");
  const [canvas, context] = newCanvas(LOUPE_SIDE * 6, LOUPE_SIDE * 6);
  canvas.setAttribute("aria-hidden", "true");
  const caption = document.createElement("figcaption");
  caption.textContent = title;
  figure.append(canvas, caption);
  box.append(figure);
  return { figure, context, caption };
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Picture} picture
 * @param {Layer} layer
 * @param {[number, number] | null} pointed
 */
function drawWindow(context, picture, layer, pointed) {
  const { width } = context.canvas;
  const side = width / LOUPE_SIDE;
  context.clearRect(0, 0, width, width);
  if (!pointed) return;
  const half = (LOUPE_SIDE - 1) / 2;
  context.imageSmoothingEnabled = false;
  const source = drawLayer(picture, layer);
  context.drawImage(source, pointed[0] - half, pointed[1] - half, LOUPE_SIDE, LOUPE_SIDE, 0, 0, width, width);
  context.strokeStyle = "rgb(0 0 0 / 0.8)";
  context.lineWidth = 2.5;
  context.strokeRect(half * side, half * side, side, side);
  context.strokeStyle = "#fff";
  context.lineWidth = 1;
  context.strokeRect(half * side, half * side, side, side);
}

/** @param {number} id */
function className(id) {
  return id === IGNORED ? "ignored" : page.classes[id];
}

/**
 * "truth pole · 0.5x building 71 % · 1x pole 48 % · weights 4 / 96 % · fused pole"
 * @param {Picture} picture
 * @param {number} x
 * @param {number} y
 */
function readOut(picture, x, y) {
  const percent = (/** @type {number | null} */ value) => (value === null ? "" : ` ${Math.round((100 * value) / 255)} %`);
  const at = (/** @type {string} */ name) => picture.at(name, x, y);
  const truth = at("truth");
  const parts = truth === null ? [] : [`truth ${className(truth)}`];
  for (const scale of page.scales) {
    const found = at(`scale-${scale}`);
    if (found !== null) parts.push(`${scale}x ${className(found)}${percent(at(`confidence-scale-${scale}`))}`);
  }
  const weights = page.weighted.map((scale) => at(`weight-${scale}`)).filter((weight) => weight !== null);
  if (weights.length > 1) {
    parts.push(`weights ${weights.map((weight) => Math.round((100 * Number(weight)) / 255)).join(" / ")} %`);
  }
  const average = at("average");
  if (average !== null) parts.push(`average ${className(average)}`);
  parts.push(`fused ${className(at("fused") ?? IGNORED)}${percent(at("confidence-fused"))}`);
  return `${x}, ${y}: ${parts.join(" · ")}`;
}
