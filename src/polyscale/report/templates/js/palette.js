// @ts-check
// The class list beside the stage: colours, which classes are shown, one class alone.

/**
 * @param {Rgb[]} palette
 */
function usePalette(palette) {
  choice.palette = palette;
  palette.forEach((color, c) => document.documentElement.style.setProperty(`--c${c}`, `rgb(${color.join(" ")})`));
}

/**
 * Buttons that hide and show a class.
 * @param {() => void} changed called after a change
 */
function setUpClasses(changed) {
  const buttons = [...element("class-list").querySelectorAll("button")];
  const show = () => {
    buttons.forEach((button, c) => button.setAttribute("aria-pressed", String(!choice.hidden.has(c))));
    changed();
  };
  buttons.forEach((button, c) =>
    button.addEventListener("click", () => {
      if (!choice.hidden.delete(c)) choice.hidden.add(c);
      show();
    }),
  );
  element("all-classes").addEventListener("click", () => {
    choice.hidden.clear();
    show();
  });
  let alone = -1;
  return {
    /** Show the next class alone, or after the last all of them.
     * @param {number} by */
    step(by) {
      alone = alone + by >= page.classes.length || alone + by < -1 ? -1 : alone + by;
      choice.hidden = new Set(alone < 0 ? [] : page.classes.keys());
      choice.hidden.delete(alone);
      show();
      say(alone < 0 ? "all classes" : `${page.classes[alone]} alone`);
    },
  };
}

/**
 * Tell those who listen rather than look.
 * @param {string} words
 */
function say(words) {
  element("status").textContent = words;
}
