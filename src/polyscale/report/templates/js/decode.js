// @ts-check
// The page's data: what the template embedded, and the maps of one image, decoded when they are first needed.

/**
 * @typedef {[number, number, number]} Rgb
 * @typedef {{name: string, size: [number, number], score: number | null, gain: number | null, iou: (number | null)[],
 *   confident: number | null, mistakes: [number, number, number][], stored: boolean, logits?: boolean, file?: string,
 *   views?: string}} ImageInfo
 * @typedef {{classes: string[], distinct: Rgb[], own: Rgb[], scales: string[], weighted: string[], scale_colors: Rgb[],
 *   heat: Rgb[], method: string, fusion: string, rival: {map: string, name: string}, images: ImageInfo[], order: number[],
 *   coverage: [number, number, number][] | null, coverage_lowest: number | null}} PageData
 * @typedef {{size: [number, number], logits: Record<string, {grid: [number, number], deepest: number,
 *   attention?: [number, number, number], best?: [number, number]}>, files: Record<string, string>}} StoredImage
 * @typedef {{width: number, height: number, data: Uint8Array}} Grey
 */

const IGNORED = 255;

/** @type {PageData} */
const page = JSON.parse(element("page-data").textContent || "{}");

/**
 * @param {string} id
 * @returns {HTMLElement}
 */
function element(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element ${id}`);
  return found;
}

/**
 * @param {string} text base64
 * @returns {Promise<ImageBitmap>} with its bytes as they were stored
 */
function decodeBitmap(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const options = /** @type {const} */ ({ colorSpaceConversion: "none", premultiplyAlpha: "none" });
  return createImageBitmap(new Blob([bytes]), options);
}

/**
 * @param {number} width
 * @param {number} height
 * @returns {[HTMLCanvasElement, CanvasRenderingContext2D]}
 */
function newCanvas(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("this browser draws no canvas");
  return [canvas, context];
}

/**
 * @param {string} text base64 of a grey picture
 * @returns {Promise<Grey>}
 */
async function decodeGrey(text) {
  const bitmap = await decodeBitmap(text);
  const { width, height } = bitmap;
  const [, context] = newCanvas(width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, width, height).data;
  const data = new Uint8Array(width * height);
  for (let k = 0; k < data.length; k++) data[k] = rgba[4 * k];
  return { width, height, data };
}

/** One image with its maps; `maps` has the class ids, weights and confidences, `pixels` the photograph at full size. */
class Picture {
  /**
   * @param {number} index
   * @param {StoredImage} stored
   * @param {Map<string, Grey>} maps
   * @param {Uint8ClampedArray} pixels
   */
  constructor(index, stored, maps, pixels) {
    this.index = index;
    this.stored = stored;
    this.maps = maps;
    this.pixels = pixels;
    this.height = stored.size[0];
    this.width = stored.size[1];
  }

  /**
   * Value of a map under a pixel of the image; maps of weights and confidences are smaller than the image.
   * @param {string} name
   * @param {number} x
   * @param {number} y
   */
  at(name, x, y) {
    const map = this.maps.get(name);
    if (!map) return null;
    const column = Math.min(map.width - 1, Math.floor((x * map.width) / this.width));
    const row = Math.min(map.height - 1, Math.floor((y * map.height) / this.height));
    return map.data[row * map.width + column];
  }
}

/** @type {Map<number, (data: StoredImage) => void>} */
const waiting = new Map();

// Files beside the page call this: a page opened from disk may run a script, but not read another file.
Object.assign(window, {
  polyscaleImage: (/** @type {number} */ index, /** @type {StoredImage} */ data) => waiting.get(index)?.(data),
});

/** Images that came while the page was open. @type {Map<number, StoredImage>} */
const given = new Map();

/**
 * @param {number} index
 * @returns {Promise<StoredImage>}
 */
function readStored(index) {
  const known = given.get(index);
  if (known) return Promise.resolve(known);
  const embedded = document.getElementById(`image-${index}`);
  if (embedded) return Promise.resolve(JSON.parse(embedded.textContent || "{}"));
  const { file } = page.images[index];
  return file ? fetchBeside(index, file) : Promise.reject(new Error("This image was not stored in full."));
}

/**
 * The files of an image's views, which may lie beside the page.
 * @param {number} index
 * @param {StoredImage} stored
 * @returns {Promise<StoredImage>} with them
 */
async function withViews(index, stored) {
  const { views } = page.images[index];
  if (!views) return stored;
  const beside = await fetchBeside(index, views);
  return { ...stored, files: { ...stored.files, ...beside.files } };
}

/**
 * @param {number} index
 * @param {string} file
 * @returns {Promise<StoredImage>} what it hands over
 */
function fetchBeside(index, file) {
  return new Promise((resolve, reject) => {
    waiting.set(index, resolve);
    const script = document.createElement("script");
    script.src = file;
    script.onerror = () => reject(new Error(`${file} is missing: keep the folder beside the page.`));
    document.head.append(script);
  });
}

/** @type {Map<number, Promise<Picture>>} */
const pictures = new Map();
const MOST_PICTURES = 6;

/**
 * @param {number} index
 * @returns {Promise<Picture>}
 */
function loadPicture(index) {
  const known = pictures.get(index);
  if (known) return known;
  const loading = decodePicture(index);
  pictures.set(index, loading);
  loading.catch(() => pictures.delete(index));
  // The oldest go first: a decoded image takes a hundred times its file.
  for (const old of pictures.keys()) {
    if (pictures.size <= MOST_PICTURES) break;
    pictures.delete(old);
  }
  return loading;
}

/**
 * @param {number} index
 * @returns {Promise<Picture>}
 */
async function decodePicture(index) {
  const stored = await readStored(index);
  const [height, width] = stored.size;
  const names = Object.keys(stored.files).filter((name) => !/^(photo$|logits-|attention-|best-)/.test(name));
  const greys = await Promise.all(names.map((name) => decodeGrey(stored.files[name])));
  const photo = await decodeBitmap(stored.files.photo);
  const [, context] = newCanvas(width, height);
  context.drawImage(photo, 0, 0, width, height);
  photo.close();
  const pixels = context.getImageData(0, 0, width, height).data;
  return new Picture(index, stored, new Map(names.map((name, k) => [name, greys[k]])), pixels);
}
