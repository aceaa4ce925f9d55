// @ts-check
// One large image: two layers, locked together and parted by a wipe, zoomed to single pixels and panned.

const MOST_ZOOM = 40;

/** The canvas and what it shows. */
class Stage {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    /** @type {Picture | null} */
    this.picture = null;
    this.left = "photo";
    this.right = "fused";
    this.wipe = 0.5;
    this.zoom = 1; // times the size at which the image fits
    this.center = [0.5, 0.5];
    /** @type {[number, number] | null} pixel under the pointer or the keys */
    this.pointed = null;
    /** @type {(() => void)[]} */
    this.listeners = [];
    this.queued = false;
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** @param {Picture} picture */
  show(picture) {
    const other = this.picture?.width !== picture.width || this.picture?.height !== picture.height;
    this.picture = picture;
    if (other) {
      this.fit();
      this.pointed = tellingPixel(picture);
    }
    this.canvas.style.aspectRatio = `${picture.width} / ${picture.height}`;
    this.changed();
  }

  /** Draw soon, and tell who listens. */
  changed() {
    this.draw();
    for (const listener of this.listeners) listener();
  }

  draw() {
    if (this.queued) return;
    this.queued = true;
    requestAnimationFrame(() => {
      this.queued = false;
      this.drawNow();
    });
  }

  /** Device pixels for one pixel of the image. */
  get factor() {
    const picture = /** @type {Picture} */ (this.picture);
    return this.zoom * Math.min(this.canvas.width / picture.width, this.canvas.height / picture.height);
  }

  /** Place of the image's upper left corner, in device pixels. */
  get corner() {
    const picture = /** @type {Picture} */ (this.picture);
    return [
      this.canvas.width / 2 - this.center[0] * picture.width * this.factor,
      this.canvas.height / 2 - this.center[1] * picture.height * this.factor,
    ];
  }

  drawNow() {
    const { canvas, context, picture } = this;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (!picture) return;
    this.keepInside();
    const layers = layersOf(picture);
    const find = (/** @type {string} */ key) => layers.find((layer) => layer.key === key) || layers[0];
    const [left, right] = [find(this.left), find(this.right)];
    const edge = Math.round(this.wipe * canvas.width);
    this.drawPart(left, 0, edge);
    this.drawPart(right, edge, canvas.width);
    if (edge > 0 && edge < canvas.width) this.drawEdge(edge, ratio);
    this.drawTitles(left.title, right.title, edge, ratio);
    this.drawPointed(ratio);
  }

  /**
   * @param {Layer} layer
   * @param {number} start
   * @param {number} end
   */
  drawPart(layer, start, end) {
    if (end <= start || !this.picture) return;
    const { context, canvas, picture, factor } = this;
    const [x, y] = this.corner;
    context.save();
    context.beginPath();
    context.rect(start, 0, end - start, canvas.height);
    context.clip();
    context.imageSmoothingEnabled = factor < 2 && layer.kind === "photo";
    context.imageSmoothingQuality = "high";
    context.drawImage(drawLayer(picture, layer), x, y, picture.width * factor, picture.height * factor);
    if (choice.names && layer.kind === "classes") this.drawNames(layer);
    context.restore();
  }

  /** @param {Layer} layer */
  drawNames(layer) {
    const { context, factor } = this;
    const [x, y] = this.corner;
    const size = 13 * (window.devicePixelRatio || 1);
    context.font = `600 ${size}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.lineWidth = size / 4;
    for (const region of regionNames(/** @type {Picture} */ (this.picture), layer.key)) {
      const place = /** @type {const} */ ([x + region.x * factor, y + region.y * factor]);
      context.strokeStyle = "rgb(0 0 0 / 0.75)";
      context.strokeText(region.name, ...place);
      context.fillStyle = "#fff";
      context.fillText(region.name, ...place);
    }
  }

  /**
   * @param {number} edge
   * @param {number} ratio
   */
  drawEdge(edge, ratio) {
    const { context, canvas } = this;
    context.fillStyle = "rgb(0 0 0 / 0.55)";
    context.fillRect(edge - 2 * ratio, 0, 4 * ratio, canvas.height);
    context.fillStyle = "#fff";
    context.fillRect(edge - ratio, 0, 2 * ratio, canvas.height);
    context.beginPath();
    context.arc(edge, canvas.height / 2, 9 * ratio, 0, 2 * Math.PI);
    context.fill();
    context.lineWidth = 1.5 * ratio;
    context.strokeStyle = "rgb(0 0 0 / 0.55)";
    context.stroke();
  }

  /**
   * @param {string} left
   * @param {string} right
   * @param {number} edge
   * @param {number} ratio
   */
  drawTitles(left, right, edge, ratio) {
    const { context, canvas } = this;
    context.font = `600 ${12 * ratio}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    context.textAlign = "left";
    const write = (/** @type {string} */ text, /** @type {boolean} */ atRight) => {
      const width = context.measureText(text).width + 14 * ratio;
      const x = atRight ? canvas.width - width - 8 * ratio : 8 * ratio;
      if (atRight ? x < edge : x + width > edge) return;
      context.fillStyle = "rgb(10 12 14 / 0.72)";
      context.beginPath();
      context.roundRect(x, 8 * ratio, width, 22 * ratio, 6 * ratio);
      context.fill();
      context.fillStyle = "#fff";
      context.fillText(text, x + 7 * ratio, 19.5 * ratio);
    };
    write(left, false);
    write(right, true);
  }

  /** @param {number} ratio */
  drawPointed(ratio) {
    if (!this.pointed) return;
    const { context, factor } = this;
    const [x, y] = this.corner;
    const side = Math.max(factor, 6 * ratio);
    const place = [x + (this.pointed[0] + 0.5) * factor - side / 2, y + (this.pointed[1] + 0.5) * factor - side / 2];
    context.lineWidth = 3 * ratio;
    context.strokeStyle = "rgb(0 0 0 / 0.7)";
    context.strokeRect(place[0], place[1], side, side);
    context.lineWidth = 1.2 * ratio;
    context.strokeStyle = "#fff";
    context.strokeRect(place[0], place[1], side, side);
  }

  keepInside() {
    this.zoom = Math.min(MOST_ZOOM, Math.max(1, this.zoom));
    const margin = 0.5 / this.zoom;
    this.center = this.center.map((value) => Math.min(1 - margin, Math.max(margin, value)));
  }

  fit() {
    this.zoom = 1;
    this.center = [0.5, 0.5];
  }

  /**
   * Zoom, with one place of the canvas (shares of its sides) staying where it is.
   * @param {number} times
   * @param {number} [x]
   * @param {number} [y]
   */
  zoomBy(times, x = 0.5, y = 0.5) {
    const before = this.zoom;
    this.zoom = Math.min(MOST_ZOOM, Math.max(1, this.zoom * times));
    const gain = 1 / before - 1 / this.zoom;
    this.center = [this.center[0] + (x - 0.5) * gain, this.center[1] + (y - 0.5) * gain];
    this.changed();
  }

  /**
   * Move the image by CSS pixels.
   * @param {number} x
   * @param {number} y
   */
  panBy(x, y) {
    this.center = [
      this.center[0] - x / (this.canvas.clientWidth * this.zoom),
      this.center[1] - y / (this.canvas.clientHeight * this.zoom),
    ];
    this.changed();
  }

  /**
   * The image's pixel under a place on the screen.
   * @param {number} clientX
   * @param {number} clientY
   * @returns {[number, number] | null}
   */
  pixelAt(clientX, clientY) {
    if (!this.picture) return null;
    const box = this.canvas.getBoundingClientRect();
    const ratio = this.canvas.width / box.width;
    const x = Math.floor(((clientX - box.left) * ratio - this.corner[0]) / this.factor);
    const y = Math.floor(((clientY - box.top) * ratio - this.corner[1]) / this.factor);
    return x >= 0 && y >= 0 && x < this.picture.width && y < this.picture.height ? [x, y] : null;
  }

  /**
   * Point at another pixel by the keys.
   * @param {number} x
   * @param {number} y
   */
  pointBy(x, y) {
    if (!this.picture) return;
    const { width, height } = this.picture;
    const [a, b] = this.pointed || [Math.floor(width / 2) - x, Math.floor(height / 2) - y];
    this.pointed = [Math.min(width - 1, Math.max(0, a + x)), Math.min(height - 1, Math.max(0, b + y))];
    this.changed();
  }
}

/**
 * Pointer, wheel and touch.
 * @param {Stage} stage
 * @param {(wipe: number) => void} setWipe
 */
function setUpPointer(stage, setWipe) {
  const { canvas } = stage;
  /** @type {Map<number, PointerEvent>} */
  const down = new Map();
  let wiping = false;
  const share = (/** @type {PointerEvent} */ event) => {
    const box = canvas.getBoundingClientRect();
    return (event.clientX - box.left) / box.width;
  };
  canvas.addEventListener("pointerdown", (event) => {
    down.set(event.pointerId, event);
    canvas.setPointerCapture(event.pointerId);
    wiping = down.size === 1 && Math.abs(share(event) - stage.wipe) * canvas.clientWidth < 16;
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = down.get(event.pointerId);
    if (!before) {
      stage.pointed = stage.pixelAt(event.clientX, event.clientY);
      stage.changed();
      return;
    }
    const [x, y] = [event.clientX - before.clientX, event.clientY - before.clientY];
    if (wiping) setWipe(Math.min(1, Math.max(0, share(event))));
    else if (down.size === 1) {
      stage.pointed = stage.pixelAt(event.clientX, event.clientY);
      stage.panBy(x, y);
    } else {
      const other = [...down.values()].find((one) => one.pointerId !== event.pointerId);
      if (other) pinch(stage, before, event, other);
    }
    down.set(event.pointerId, event);
  });
  for (const name of /** @type {const} */ (["pointerup", "pointercancel"])) {
    canvas.addEventListener(name, (event) => down.delete(event.pointerId));
  }
  // Without Ctrl the wheel scrolls the page, unless the reader has turned to the stage.
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return;
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      const times = Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002));
      stage.zoomBy(times, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    },
    { passive: false },
  );
}

/**
 * @param {Stage} stage
 * @param {PointerEvent} before
 * @param {PointerEvent} now
 * @param {PointerEvent} other
 */
function pinch(stage, before, now, other) {
  const far = (/** @type {PointerEvent} */ one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
  const box = stage.canvas.getBoundingClientRect();
  const middle = [(now.clientX + other.clientX) / 2 - box.left, (now.clientY + other.clientY) / 2 - box.top];
  stage.zoomBy(far(now) / Math.max(1, far(before)), middle[0] / box.width, middle[1] / box.height);
  stage.panBy((now.clientX - before.clientX) / 2, (now.clientY - before.clientY) / 2);
}
