// Enlarged pictures: arrow keys and buttons step through the pictures of one example, at the same place on the screen.
(() => {
  const viewer = document.getElementById("viewer");
  const large = viewer.querySelector("img");
  const caption = viewer.querySelector("span");
  let pictures = [];
  let index = 0;
  const show = () => {
    const image = pictures[index];
    large.src = image.src;
    large.alt = image.alt;
    large.style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
    large.classList.toggle("small", image.naturalWidth < 700);
    caption.textContent = image.closest("figure").querySelector("figcaption").textContent;
  };
  const step = (by) => {
    index = (index + by + pictures.length) % pictures.length;
    show();
  };
  document.querySelectorAll(".zoom").forEach((button) => button.addEventListener("click", () => {
    pictures = [...button.closest(".example").querySelectorAll(".zoom img")];
    index = pictures.indexOf(button.firstElementChild);
    show();
    viewer.showModal();
  }));
  viewer.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button && button.dataset.step) step(Number(button.dataset.step));
    else if (event.target !== large) viewer.close();
  });
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") step(1);
    if (event.key === "ArrowLeft") step(-1);
  });
})();
