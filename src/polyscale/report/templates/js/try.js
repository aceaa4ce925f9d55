// @ts-check
// The page to try a network: an image is dropped, pasted or chosen, the server looks at it, the stage shows it.

/** @typedef {{name: string, note: string, stored: StoredImage}} Answer */

function start() {
  const { stage, show } = setUpStage({ o: () => file.click() });
  const file = /** @type {HTMLInputElement} */ (element("file"));
  const size = /** @type {HTMLSelectElement} */ (element("longest"));
  const boxes = /** @type {HTMLInputElement[]} */ ([...element("scales").querySelectorAll("input")]);
  const most = Number(file.dataset.most);
  /** @type {File | null} */
  let last = null;
  let turn = 0;

  const tell = (/** @type {string} */ problem) => {
    element("problem").textContent = problem;
  };
  const busy = (/** @type {string} */ words) => {
    element("busy").textContent = words;
    document.body.classList.toggle("busy", words !== "");
  };

  /** @param {File | null | undefined} chosen */
  const look = async (chosen) => {
    if (!chosen) return;
    const mine = ++turn;
    tell("");
    if (chosen.size > most) {
      tell(`${chosen.name} has ${(chosen.size / 1e6).toFixed(0)} MB; at most ${(most / 1e6).toFixed(0)} MB are taken. Make it smaller.`);
      return;
    }
    last = chosen;
    const scales = boxes.filter((box) => box.checked).map((box) => box.value).join(",");
    const asked = new URLSearchParams({ name: chosen.name || "pasted image", scales, longest: size.value });
    busy(`Looking at ${chosen.name || "the pasted image"} …`);
    try {
      const reply = await fetch(`/look?${asked}`, {
        method: "POST", body: chosen, headers: { "Content-Type": "application/octet-stream" },
      });
      const answer = await reply.json();
      if (mine !== turn) return;
      if (!reply.ok) tell(answer.error);
      else await take(answer);
    } catch {
      if (mine === turn) tell("The program does not answer; is it still running in the terminal?");
    } finally {
      if (mine === turn) busy("");
    }
  };

  /** @param {Answer} answer */
  const take = async ({ name, note, stored }) => {
    const index = page.images.length;
    page.images.push({
      name, size: stored.size, score: null, gain: null, iou: [], confident: null, mistakes: [], stored: true,
      logits: Object.keys(stored.logits).length > 1,
    });
    given.clear();
    given.set(index, stored);
    document.body.classList.add("looked");
    show(await loadPicture(index));
    element("stage-name").textContent = `${name} · ${note}`;
    say(`${name}: done`);
  };

  file.addEventListener("change", () => {
    look(file.files?.[0]);
    file.value = "";
  });
  element("again").addEventListener("input", () => look(last));
  document.addEventListener("paste", (event) => {
    const pasted = [...(event.clipboardData?.files ?? [])][0];
    if (pasted) look(pasted);
    else tell("The clipboard holds no image.");
  });
  for (const name of /** @type {const} */ (["dragenter", "dragover"])) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      document.body.classList.add("over");
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    const dropped = event.dataTransfer?.files[0];
    if (dropped) look(dropped);
    else tell("That is no file. Drop an image file, or paste an image.");
  });
  // For the browser's console, and for tests.
  Object.assign(window, { polyscale: { page, stage, loadPicture, look } });
}

usePalette(page.distinct);
start();
