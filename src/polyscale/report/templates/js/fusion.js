// @ts-check
// The project's fusion, from the stored logits of each view: from the finest scale to the coarsest
//     fused = a * L + (1 - a) * fused
// with the same resizing as the network's. `polyscale/multiscale.py` is the original.

/**
 * What the mixer asks of a scale: "learnt", "most" (at most `value`), "force" (`value` everywhere), "without".
 * @typedef {{kind: string, value: number}} Wish
 * @typedef {{scale: number, height: number, width: number, logits: Uint8Array, deepest: number,
 *   best: Float32Array | null, attention: Float32Array | null, maps: number, trustSize: [number, number],
 *   probable: boolean}} StoredView `logits` are codes of how far below the best of their pixel they lie, and `best` is
 *   that best, where it matters; `attention` has one map, or one for each class, of `trustSize`; of a network that
 *   averages probabilities it is null, and every scale counts the same
 */

/**
 * Bilinear, pixel centres aligned.
 * @param {Float32Array} source
 * @param {number} height
 * @param {number} width
 * @param {number} toHeight
 * @param {number} toWidth
 * @returns {Float32Array}
 */
function resizeMap(source, height, width, toHeight, toWidth) {
  if (height === toHeight && width === toWidth) return source;
  const result = new Float32Array(toHeight * toWidth);
  const lefts = new Int32Array(toWidth);
  const shares = new Float32Array(toWidth);
  for (let x = 0; x < toWidth; x++) {
    const place = Math.max(0, ((x + 0.5) * width) / toWidth - 0.5);
    lefts[x] = Math.min(Math.floor(place), width - 1);
    shares[x] = place - lefts[x];
  }
  for (let y = 0; y < toHeight; y++) {
    const place = Math.max(0, ((y + 0.5) * height) / toHeight - 0.5);
    const top = Math.min(Math.floor(place), height - 1);
    const share = place - top;
    const upper = top * width;
    const lower = Math.min(top + 1, height - 1) * width;
    for (let x = 0; x < toWidth; x++) {
      const left = lefts[x];
      const right = left + 1 < width ? left + 1 : left;
      const part = shares[x];
      const above = source[upper + left] * (1 - part) + source[upper + right] * part;
      const below = source[lower + left] * (1 - part) + source[lower + right] * part;
      result[y * toWidth + x] = above * (1 - share) + below * share;
    }
  }
  return result;
}

/**
 * @param {StoredImage} stored
 * @param {string} method of combining scales
 * @returns {Promise<StoredView[]>} finest first; empty where no logits were stored
 */
async function readViews(stored, method) {
  const scales = Object.keys(stored.logits).sort((a, b) => Number(b) - Number(a));
  const probable = method === "average";
  // Only the finest view may lack attention, which is never read.
  if (!probable && scales.slice(1).some((scale) => !stored.logits[scale].attention)) return [];
  return Promise.all(
    scales.map(async (scale) => {
      const { grid, deepest, attention: shape, best: range } = stored.logits[scale];
      const read = async (/** @type {string} */ name, /** @type {(value: number) => number} */ change) =>
        Float32Array.from((await decodeGrey(stored.files[`${name}-${scale}`])).data, change);
      const logits = (await decodeGrey(stored.files[`logits-${scale}`])).data;
      const attention = shape ? await read("attention", (value) => value / 255) : null;
      const best = range ? await read("best", (value) => range[0] + (value / 255) * range[1]) : null;
      const [maps, ...trustSize] = shape ?? [1, ...grid];
      const [height, width] = grid;
      return { scale: Number(scale), height, width, logits, deepest, best, attention, maps, trustSize, probable };
    }),
  );
}

/**
 * @param {StoredView[]} views finest first
 * @param {Record<string, Wish>} wishes
 * @returns {StoredView[]} without those not wanted, with the attention that is wanted
 */
function wishedViews(views, wishes) {
  return views
    .filter((view) => wishes[view.scale]?.kind !== "without")
    .map((view, k) => {
      const wish = wishes[view.scale];
      const attention = view.probable ? new Float32Array(view.height * view.width).fill(1 / (k + 1)) : view.attention;
      if (!attention || !wish || wish.kind === "learnt") return { ...view, attention };
      const change = wish.kind === "force" ? () => wish.value : (/** @type {number} */ a) => Math.min(a, wish.value);
      return { ...view, attention: attention.map(change) };
    });
}

/**
 * One map through the chain of fusion.
 * @param {StoredView[]} views finest first
 * @param {number} c the class that it is of
 * @param {(view: StoredView) => Float32Array} read the map of each view
 * @param {string} fusion "exact": at scales from 1 up the result takes each view's size; "apart": attention and logits
 *   are enlarged each by itself, and multiplied then
 * @returns {{map: Float32Array, height: number, width: number}}
 */
function chainMap(views, c, read, fusion) {
  let { height, width } = views[0];
  let map = read(views[0]);
  for (const view of views.slice(1)) {
    const [trustHeight, trustWidth] = view.trustSize;
    const size = trustHeight * trustWidth;
    const first = view.maps > 1 ? c * size : 0;
    const attention = /** @type {Float32Array} */ (view.attention).subarray(first, first + size);
    const own = read(view);
    const down = fusion === "exact" && view.scale >= 1;
    if (down) {
      map = resizeMap(map, height, width, view.height, view.width);
      ({ height, width } = view);
    }
    const enlarged = (/** @type {Float32Array} */ small) => resizeMap(small, view.height, view.width, height, width);
    const apart = fusion === "apart";
    const product = enlarged(apart ? own : own.map((value, k) => attention[k] * value));
    const trust = resizeMap(attention, trustHeight, trustWidth, height, width);
    map = map.map((value, k) => (apart ? trust[k] * product[k] : product[k]) + (1 - trust[k]) * value);
  }
  return { map, height, width };
}

/**
 * Classes of the fused result.
 * @param {StoredView[]} views finest first
 * @param {number} numClasses
 * @param {[number, number]} size of the image, height and width
 * @param {string} fusion
 * @returns {Uint8Array}
 */
function fuseClasses(views, numClasses, [height, width], fusion) {
  const tables = new Map(
    views.map((view) => {
      const logit = (/** @type {number} */ k) => (k ? (view.deepest / 5) * Math.log(k / 255) : -view.deepest);
      const value = view.probable ? (/** @type {number} */ k) => Math.exp(logit(k)) : logit;
      return [view, Float32Array.from({ length: 256 }, (_, k) => value(k))];
    }),
  );
  const sums = new Map(views.map((view) => [view, view.probable ? sumOf(view, tables.get(view)) : null]));
  const best = new Float32Array(height * width).fill(-Infinity);
  const classes = new Uint8Array(height * width);
  for (let c = 0; c < numClasses; c++) {
    const read = (/** @type {StoredView} */ view) => {
      const table = /** @type {Float32Array} */ (tables.get(view));
      const size = view.height * view.width;
      const sum = sums.get(view);
      const codes = view.logits.subarray(c * size, (c + 1) * size);
      if (sum) return Float32Array.from(codes, (code, k) => table[code] / sum[k]);
      const { best } = view;
      return Float32Array.from(codes, best ? (code, k) => table[code] + best[k] : (code) => table[code]);
    };
    const fused = chainMap(views, c, read, fusion);
    const map = resizeMap(fused.map, fused.height, fused.width, height, width);
    for (let k = 0; k < map.length; k++) {
      if (map[k] > best[k]) {
        best[k] = map[k];
        classes[k] = c;
      }
    }
  }
  return classes;
}

/**
 * Over the classes of each pixel.
 * @param {StoredView} view
 * @param {Float32Array | undefined} table what a code stands for
 * @returns {Float32Array}
 */
function sumOf(view, table) {
  const size = view.height * view.width;
  const sum = new Float32Array(size);
  view.logits.forEach((code, k) => (sum[k % size] += /** @type {Float32Array} */ (table)[code]));
  return sum;
}

/**
 * Mean weight of each view in the class chosen, over the pixels of the grid.
 * @param {StoredView[]} views finest first
 * @param {string} fusion
 * @param {Uint8Array} classes of the fused result, of the image
 * @param {[number, number]} size of the image, height and width
 * @returns {number[]}
 */
function meanWeights(views, fusion, classes, [imageHeight, imageWidth]) {
  const several = views.some((view) => view.maps > 1);
  const present = several ? new Set(classes) : [0];
  return views.map((chosen) => {
    const read = (/** @type {StoredView} */ view) =>
      new Float32Array(view.height * view.width).fill(view === chosen ? 1 : 0);
    let sum = 0;
    let pixels = 0;
    for (const c of present) {
      const { map, height, width } = chainMap(views, c, read, fusion);
      for (let k = 0; k < map.length; k++) {
        const y = Math.floor(((Math.floor(k / width) + 0.5) * imageHeight) / height);
        const x = Math.floor((((k % width) + 0.5) * imageWidth) / width);
        if (several && classes[y * imageWidth + x] !== c) continue;
        sum += map[k];
        pixels++;
      }
    }
    return sum / pixels;
  });
}

/**
 * Counts by true and predicted class, added to `matrix`.
 * @param {Uint8Array} truth
 * @param {Uint8Array} classes
 * @param {Float64Array} matrix numClasses x numClasses, rows truth
 */
function addConfusion(truth, classes, matrix) {
  const numClasses = Math.sqrt(matrix.length);
  for (let k = 0; k < truth.length; k++) {
    if (truth[k] !== IGNORED) matrix[truth[k] * numClasses + classes[k]]++;
  }
}

/**
 * @param {Float64Array} matrix
 * @returns {number} mean IoU in percent over the classes in truth or prediction
 */
function matrixScore(matrix) {
  const numClasses = Math.sqrt(matrix.length);
  let sum = 0;
  let known = 0;
  for (let c = 0; c < numClasses; c++) {
    let union = -matrix[c * numClasses + c];
    for (let k = 0; k < numClasses; k++) union += matrix[c * numClasses + k] + matrix[k * numClasses + c];
    if (union > 0) {
      sum += matrix[c * numClasses + c] / union;
      known++;
    }
  }
  return (100 * sum) / known;
}
