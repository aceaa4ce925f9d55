// @ts-check
// What the stage can show of an image, and the colours for it. Everything is drawn from ids and weights, so another
// palette, opacity or choice of classes costs no bytes.

const RED = /** @type {Rgb} */ ([229, 38, 56]);
const RESCUED = /** @type {Rgb} */ ([0, 120, 200]);
const SPOILED = /** @type {Rgb} */ ([235, 105, 0]);

/** What the reader has chosen. */
const choice = {
  /** @type {Rgb[]} */ palette: page.distinct,
  opacity: 0.75,
  names: false,
  /** @type {Set<number>} */ hidden: new Set(),
};

/** @typedef {{key: string, title: string, kind: string}} Layer */

/**
 * Layers that an image has.
 * @param {Picture} picture
 * @returns {Layer[]}
 */
function layersOf(picture) {
  const has = (/** @type {string} */ name) => picture.maps.has(name);
  const layers = [
    { key: "photo", title: "Photograph", kind: "photo" },
    ...(has("truth") ? [{ key: "truth", title: "Truth", kind: "classes" }] : []),
    { key: "fused", title: "Fused", kind: "classes" },
    ...page.scales
      .filter((scale) => has(`scale-${scale}`))
      .map((scale) => ({ key: `scale-${scale}`, title: `${scale}x alone`, kind: "classes" })),
  ];
  if (has("average")) layers.push({ key: "average", title: "Average", kind: "classes" });
  if (has("mixed")) layers.push({ key: "mixed", title: "Mixed", kind: "classes" });
  if (has("truth")) layers.push({ key: "error", title: "Error", kind: "error" });
  if (has("truth") && has(page.rival.map)) layers.push({ key: "rescued", title: "Rescued and spoiled", kind: "rescued" });
  if (page.weighted.some((scale) => has(`weight-${scale}`))) layers.push({ key: "trust", title: "Trust", kind: "trust" });
  if (has("confidence-fused")) layers.push({ key: "confidence", title: "Confidence", kind: "confidence" });
  return layers;
}

/** @type {WeakMap<Picture, Map<string, HTMLCanvasElement>>} */
const drawn = new WeakMap();

/**
 * A layer at the image's size; kept until the reader's choice changes.
 * @param {Picture} picture
 * @param {Layer} layer
 * @returns {HTMLCanvasElement}
 */
function drawLayer(picture, layer) {
  const kept = drawn.get(picture) || new Map();
  drawn.set(picture, kept);
  const known = kept.get(layer.key);
  if (known) return known;
  const [canvas, context] = newCanvas(picture.width, picture.height);
  const result = context.createImageData(picture.width, picture.height);
  paint(picture, layer, result.data);
  context.putImageData(result, 0, 0);
  kept.set(layer.key, canvas);
  return canvas;
}

/**
 * Forget what was drawn with the former choice.
 * @param {Picture} picture
 * @param {string} [key] of one layer
 */
function forgetLayers(picture, key) {
  if (key) drawn.get(picture)?.delete(key);
  else drawn.delete(picture);
}

/**
 * @param {Picture} picture
 * @param {Layer} layer
 * @param {Uint8ClampedArray} out RGBA
 */
function paint(picture, layer, out) {
  const { pixels } = picture;
  const colorAt = colorOf(picture, layer);
  const pale = layer.kind === "error" || layer.kind === "rescued" || layer.kind === "trust";
  for (let k = 0; k < out.length; k += 4) {
    const color = colorAt(k / 4);
    const share = color[3];
    let red = pixels[k];
    let green = pixels[k + 1];
    let blue = pixels[k + 2];
    if (pale) red = green = blue = 0.55 * (0.299 * red + 0.587 * green + 0.114 * blue) + 70;
    out[k] = red + share * (color[0] - red);
    out[k + 1] = green + share * (color[1] - green);
    out[k + 2] = blue + share * (color[2] - blue);
    out[k + 3] = 255;
  }
}

/** @typedef {[number, number, number, number]} Tint red, green, blue, share */

/**
 * @param {Picture} picture
 * @param {Layer} layer
 * @returns {(pixel: number) => Tint}
 */
function colorOf(picture, layer) {
  const clear = /** @type {Tint} */ ([0, 0, 0, 0]);
  const ignored = /** @type {Tint} */ ([0, 0, 0, 0.85]);
  const map = (/** @type {string} */ name) => /** @type {Grey} */ (picture.maps.get(name)).data;
  switch (layer.kind) {
    case "classes": {
      const classes = map(layer.key);
      const tints = choice.palette.map(
        (color, c) => /** @type {Tint} */ ([...color, choice.hidden.has(c) ? 0 : choice.opacity]),
      );
      return (pixel) => tints[classes[pixel]] || clear;
    }
    case "error": {
      const [truth, fused] = [map("truth"), map("fused")];
      const wrong = /** @type {Tint} */ ([...RED, 0.85]);
      return (pixel) =>
        truth[pixel] === IGNORED ? ignored : truth[pixel] === fused[pixel] || choice.hidden.has(truth[pixel]) ? clear : wrong;
    }
    case "rescued": {
      const [truth, fused, rival] = [map("truth"), map("fused"), map(page.rival.map)];
      const [good, bad] = [/** @type {Tint} */ ([...RESCUED, 0.9]), /** @type {Tint} */ ([...SPOILED, 0.9])];
      return (pixel) => {
        if (truth[pixel] === IGNORED) return ignored;
        const right = fused[pixel] === truth[pixel];
        return right === (rival[pixel] === truth[pixel]) ? clear : right ? good : bad;
      };
    }
    case "trust":
      return trustOf(picture);
    case "confidence": {
      const spread = page.heat.length - 1;
      const tints = Array.from({ length: 256 }, (_, value) => {
        const place = (value / 255) * spread;
        const low = Math.min(Math.floor(place), spread - 1);
        const mixed = page.heat[low].map((a, k) => a + (place - low) * (page.heat[low + 1][k] - a));
        return /** @type {Tint} */ ([...mixed, choice.opacity]);
      });
      return (pixel) => tints[valueAt(picture, "confidence-fused", pixel)];
    }
    default:
      return () => clear;
  }
}

/**
 * Hue for the scale that counts most, strength for its weight.
 * @param {Picture} picture
 * @returns {(pixel: number) => Tint}
 */
function trustOf(picture) {
  const scales = page.weighted.filter((scale) => picture.maps.has(`weight-${scale}`));
  const colors = scales.map((scale) => page.scale_colors[page.scales.indexOf(scale)]);
  const least = 1 / scales.length;
  return (pixel) => {
    let best = 0;
    let most = -1;
    scales.forEach((scale, k) => {
      const weight = valueAt(picture, `weight-${scale}`, pixel);
      if (weight > most) [best, most] = [k, weight];
    });
    const strength = Math.max(0, (most / 255 - least) / (1 - least));
    return [...colors[best], 0.15 + 0.8 * strength];
  };
}

/**
 * @param {Picture} picture
 * @param {string} name
 * @param {number} pixel
 */
function valueAt(picture, name, pixel) {
  return picture.at(name, pixel % picture.width, Math.floor(pixel / picture.width)) ?? 0;
}

/**
 * Where to write the names of the large regions of a layer: a pixel well inside each.
 * @param {Picture} picture
 * @param {string} key
 * @returns {{x: number, y: number, name: string}[]}
 */
function regionNames(picture, key) {
  const map = picture.maps.get(key);
  if (!map) return [];
  const step = Math.max(1, Math.ceil(picture.width / 160));
  const [width, height] = [Math.ceil(picture.width / step), Math.ceil(picture.height / step)];
  const ids = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) ids[y * width + x] = map.data[y * step * map.width + x * step];
  const seen = new Uint8Array(ids.length);
  const names = [];
  for (let start = 0; start < ids.length; start++) {
    if (seen[start] || ids[start] === IGNORED || choice.hidden.has(ids[start])) continue;
    const region = [start];
    seen[start] = 1;
    for (let k = 0; k < region.length; k++) {
      const x = region[k] % width;
      for (const next of [region[k] - width, region[k] + width, x ? region[k] - 1 : -1, x < width - 1 ? region[k] + 1 : -1]) {
        if (next >= 0 && next < ids.length && !seen[next] && ids[next] === ids[start]) {
          seen[next] = 1;
          region.push(next);
        }
      }
    }
    if (region.length < Math.max(24, 0.004 * ids.length)) continue;
    const inside = innermost(region, width, height);
    names.push({ x: ((inside % width) + 0.5) * step, y: (Math.floor(inside / width) + 0.5) * step, name: page.classes[ids[start]] });
  }
  return names;
}

/**
 * The pixel of a region that survives peeling longest.
 * @param {number[]} region
 * @param {number} width
 * @param {number} height
 */
function innermost(region, width, height) {
  let left = new Set(region);
  let last = region[Math.floor(region.length / 2)];
  while (left.size) {
    last = /** @type {number} */ (left.values().next().value);
    const inner = new Set();
    for (const k of left) {
      const x = k % width;
      const y = Math.floor(k / width);
      const edge = x === 0 || y === 0 || x === width - 1 || y === height - 1;
      if (!edge && left.has(k - 1) && left.has(k + 1) && left.has(k - width) && left.has(k + width)) inner.add(k);
    }
    left = inner;
  }
  return last;
}
