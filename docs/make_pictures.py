"""The pictures of the documentation, from a finished demo: python docs/make_pictures.py DEMO

DEMO is the folder of `polyscale demo`. Writes docs/demo.png and the screenshots of docs/guides/report.md, for which it
needs selenium (`pip install -e ".[dev]"`) and Debian's packages chromium and chromium-driver.
"""

import base64
import io
import shutil
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from polyscale.files import write_atomically
from polyscale.report import read_evaluation, read_run, summary_picture, write_report

DOCS = Path(__file__).parent
WIDTH = 1280


def main(demo: Path) -> None:
    """Make all of them."""
    stored = read_evaluation(demo / "evaluation", "demo", read_run(demo / "run"))
    picture = summary_picture(stored)
    height = round(picture.height * WIDTH / picture.width)
    _save(DOCS / "demo.png", picture.resize((WIDTH, height), Image.Resampling.LANCZOS))
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        write_report(page, [stored], ["polyscale", "report", "demo", "--out", "report.html"])
        for name, shot in _screenshots(page, Path(folder)).items():
            _save(DOCS / "guides" / f"report-{name}.png", shot)


def _screenshots(page: Path, folder: Path) -> dict[str, Image.Image]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"):
        options.add_argument(argument)
    options.add_argument("--disable-background-networking")
    options.add_argument(f"--user-data-dir={folder / 'profile'}")
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        size = {"width": WIDTH, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(page.as_uri())
        while not browser.execute_script("return window.polyscale && polyscale.stage.picture !== null"):
            time.sleep(0.2)
        shots = {"ways": _part(browser, "main", "#ways ~ .dots")}
        browser.execute_script(
            "for (const [id, key] of [['layer-left', 'fused'], ['layer-right', 'trust']]) {"
            "const s = document.getElementById(id); s.value = key; s.dispatchEvent(new Event('change'));}"
            "document.getElementById('names').click();"
            "const p = polyscale.stage.picture; polyscale.stage.pointed = [p.width >> 1, p.height >> 1];"
            "polyscale.stage.changed();"
        )
        time.sleep(2)
        shots["stage"] = _part(browser, "#images", "#mixer")
        shots["sizes"] = _part(browser, "#sizes", "section[aria-labelledby=trust] .charts")
    finally:
        browser.quit()
    return shots


def _part(browser: object, first: str, last: str) -> Image.Image:
    """From the top of one element to the bottom of another."""
    edge = "return document.querySelector(arguments[0]).getBoundingClientRect()[arguments[1]] + scrollY"
    top, bottom = browser.execute_script(edge, first, "top"), browser.execute_script(edge, last, "bottom")
    clip = {"x": 0, "y": max(0, top - 20), "width": WIDTH, "height": bottom - top + 45, "scale": 1}
    found = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    return Image.open(io.BytesIO(base64.b64decode(found["data"]))).convert("RGB")


def _save(path: Path, picture: Image.Image) -> None:
    with write_atomically(path) as temporary:
        picture.save(temporary, "PNG", optimize=True)
    print(path, f"{picture.width} x {picture.height}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
