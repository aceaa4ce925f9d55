// @ts-check
// The report: the film strip and the panels around the stage.

function start() {
  const { stage, show } = setUpStage({ n: () => choose(film.next(1)), p: () => choose(film.next(-1)) });

  const choose = async (/** @type {number} */ index) => {
    const info = page.images[index];
    if (!info.stored) {
      say("This image was not stored in full; evaluate with a larger --gallery.");
      element("stage-name").textContent = `${info.name} was not stored in full; evaluate with a larger --gallery to see it here.`;
      return;
    }
    film.mark(index);
    try {
      show(await loadPicture(index));
    } catch (error) {
      element("stage-name").textContent = String(/** @type {Error} */ (error).message);
      return;
    }
    element("stage-name").textContent = `${info.name} · ${noteText(index, "score")}`;
    say(info.name);
  };

  const film = setUpFilm(choose);
  setUpConfusion((pair) => {
    film.filter(pair);
    const first = film.shown.find((index) => page.images[index].stored);
    if (first !== undefined) choose(first);
    element("stage-section").scrollIntoView();
  });
  setUpCopying();
  // For the browser's console, and for tests.
  Object.assign(window, { polyscale: { page, stage, loadPicture } });
  const first = page.order.find((index) => page.images[index].stored);
  if (first !== undefined) choose(first);
}

usePalette(page.distinct);
start();
