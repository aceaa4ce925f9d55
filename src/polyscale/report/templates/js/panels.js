// @ts-check
// The confusion matrix as a filter, and thresholds that a click copies.

/**
 * @param {(pair: [number, number]) => void} filter
 */
function setUpConfusion(filter) {
  const table = document.getElementById("confusion-table");
  if (!table) return;
  const rows = [...table.querySelectorAll("tbody tr")].map((row) => [...row.querySelectorAll("td")]);
  // One cell can be reached by Tab, the others by the arrows.
  rows.forEach((row, t) => row.forEach((cell, p) => (cell.tabIndex = t === 0 && p === 0 ? 0 : -1)));
  const use = (/** @type {number} */ t, /** @type {number} */ p) => {
    if (t === p) {
      say("These pixels are right; choose a mistake.");
      return;
    }
    for (const cell of table.querySelectorAll("[aria-selected]")) cell.removeAttribute("aria-selected");
    rows[t][p].setAttribute("aria-selected", "true");
    filter([t, p]);
  };
  const place = (/** @type {EventTarget | null} */ target) => {
    const cell = /** @type {HTMLElement | null} */ (target)?.closest("td");
    const t = rows.findIndex((row) => row.includes(/** @type {HTMLTableCellElement} */ (cell)));
    return t < 0 ? null : /** @type {[number, number]} */ ([t, rows[t].indexOf(/** @type {HTMLTableCellElement} */ (cell))]);
  };
  table.addEventListener("click", (event) => {
    const found = place(event.target);
    if (found) use(...found);
  });
  table.addEventListener("keydown", (event) => {
    const found = place(event.target);
    if (!found) return;
    const steps = /** @type {Record<string, [number, number]>} */ ({
      ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0],
    });
    const step = steps[event.key];
    if (event.key === "Enter" || event.key === " ") use(...found);
    else if (step) {
      const next = rows[found[0] + step[0]]?.[found[1] + step[1]];
      if (next) {
        rows[found[0]][found[1]].tabIndex = -1;
        next.tabIndex = 0;
        next.focus();
      }
    } else return;
    event.preventDefault();
  });
}

/**
 * @param {string} text
 */
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Where the page may not use the clipboard, the older way.
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  say(`Copied: ${text}`);
  const toast = element("toast");
  toast.textContent = `Copied: ${text.length > 60 ? `${text.slice(0, 60)}…` : text}`;
  toast.classList.add("shown");
  window.setTimeout(() => toast.classList.remove("shown"), 2500);
}

function setUpCopying() {
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", () => copyText(/** @type {HTMLElement} */ (button).dataset.copy || ""));
  }
  const chart = /** @type {SVGSVGElement | null} */ (/** @type {unknown} */ (document.getElementById("coverage")));
  const curve = page.coverage;
  if (!chart || !curve) return;
  const nearest = (/** @type {MouseEvent} */ event) => {
    const box = chart.getBoundingClientRect();
    const [left, right] = [Number(chart.dataset.left), Number(chart.dataset.right)];
    const x = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
    const coverage = (100 * (x - left)) / (right - left);
    return curve.reduce((best, point) => (Math.abs(point[1] - coverage) < Math.abs(best[1] - coverage) ? point : best));
  };
  const words = element("coverage-words");
  chart.addEventListener("pointermove", (event) => {
    const [threshold, coverage, precision] = nearest(event);
    words.textContent = `threshold ${threshold.toFixed(3)}: keeps ${coverage} % of the pixels, ${precision} % of them right; click to copy`;
  });
  chart.addEventListener("click", (event) => copyText(`--threshold ${nearest(event)[0]}`));
}
