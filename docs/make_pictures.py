"""The pictures of the documentation: python docs/make_pictures.py DEMO CLIP

DEMO is the folder of `polyscale demo`: the screenshots of docs/guides/report.md are made of it. CLIP is the file
solidWhiteRight.mp4 of github.com/udacity/CarND-LaneLines-P1 (MIT licence, Udacity): docs/street.webp, the picture of
docs/guides/background.md and the screenshot of docs/guides/try.md are made of one of its frames with the network for
streets. `-` in place of one leaves its pictures out. Screenshots need selenium (`pip install -e ".[dev]"`) and Debian's
packages chromium and chromium-driver.
"""

import base64
import contextlib
import io
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import polyscale
from polyscale.files import write_atomically
from polyscale.inference.predictor import Predictor
from polyscale.page import PageServer
from polyscale.pictures import to_grey8, trust_map
from polyscale.report import read_evaluation, read_run, write_report
from polyscale.report.ways import scale_color
from polyscale.video import Scene, background_of_image

DOCS = Path(__file__).parent
WIDTH = 1280

FRAME = 150
WIPE_SIZE = (640, 360)
STEPS, REST = 12, 900
"""Pictures of one sweep of the wipe, and milliseconds that a finished one stands."""


def main(demo: str, clip: str) -> None:
    """Make all of them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if demo != "-":
            of_demo(Path(demo), folder)
        if clip != "-":
            of_street(clip, folder)


def of_demo(demo: Path, folder: Path) -> None:
    """The screenshots of the demo's report."""
    stored = read_evaluation(demo / "evaluation", "demo", read_run(demo / "run"))
    page = folder / "report.html"
    write_report(page, [stored], ["polyscale", "report", "demo", "--out", "report.html"])
    with _browser(folder) as browser:
        browser.get(page.as_uri())
        _wait_for_picture(browser)
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
    for name, shot in shots.items():
        _save(DOCS / "guides" / f"report-{name}.png", shot)


def of_street(clip: str, folder: Path) -> None:
    """The wipe over a photograph, and the page of ``polyscale try`` with it."""
    with av.open(clip) as container:
        frame = next(frame for k, frame in enumerate(container.decode(video=0)) if k == FRAME).to_image()
    predictor = polyscale.load("streets", "cpu")
    of_sky(predictor, frame, folder)
    result = predictor.predict(frame)
    scales = sorted(result.attention)
    hues = [scale_color(k) for k in range(len(scales))]
    trust = trust_map(np.asarray(frame), [to_grey8(result.attention[scale]) for scale in scales], hues)
    named = ", ".join(f"{scale:g}x" for scale in scales)
    layers = [("Photograph", frame), ("Classes", result.overlay(0.6)), (f"Which scale counts most: {named}", trust)]
    _save_wipe(DOCS / "street.webp", [_titled(picture, title, hues) for title, picture in layers])
    photo = folder / "street.jpg"
    frame.save(photo, quality=95)
    with PageServer(predictor, "streets") as server, _browser(folder) as browser:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.get(server.url)
        browser.find_element("id", "file").send_keys(str(photo))
        _wait_for_picture(browser)
        browser.execute_script(  # the time is that of this machine
            "polyscale.stage.pointed = [770, 300]; polyscale.stage.changed();"
            "const name = document.getElementById('stage-name');"
            "name.textContent = name.textContent.replace(/ · [0-9.]+ s$/, '');"
        )
        time.sleep(2)
        _save(DOCS / "guides" / "try.png", _part(browser, "main", "#stage-section"))
        server.shutdown()


def of_sky(predictor: Predictor, frame: Image.Image, folder: Path) -> None:
    """The photograph, and all of it but the sky in front of a drawn evening."""
    photo, evening, out = (folder / name for name in ("day.png", "evening.png", "out.png"))
    frame.save(photo)
    shares = np.linspace(0, 1, 90)[:, None, None] ** 1.5
    colors = (1 - shares) * np.array([52, 58, 108]) + shares * np.array([255, 176, 112])
    Image.fromarray(np.repeat(colors, 160, axis=1).astype(np.uint8)).save(evening)
    kept = [name for name in predictor.label_space.names if name.casefold() != "sky"]
    background_of_image(predictor, photo, out, Scene(kept, str(evening)))
    with Image.open(out) as replaced:
        both = [picture.resize(WIPE_SIZE, Image.Resampling.LANCZOS) for picture in (frame, replaced.convert("RGB"))]
    pair = Image.new("RGB", (2 * WIPE_SIZE[0], WIPE_SIZE[1]))
    for k, picture in enumerate(both):
        pair.paste(picture, (k * WIPE_SIZE[0], 0))
    with write_atomically(DOCS / "guides" / "background.webp") as temporary:
        pair.save(temporary, "WEBP", quality=85, method=6)


def _titled(picture: Image.Image, title: str, hues: list[tuple[int, int, int]]) -> Image.Image:
    """A picture in the wipe's size with its name; the names of scales have their colours."""
    shown = picture.convert("RGB").resize(WIPE_SIZE, Image.Resampling.LANCZOS)
    draw, font = ImageDraw.Draw(shown), ImageFont.load_default(17)
    words = title.split(": ")
    parts = [(words[0], (255, 255, 255))]
    if len(words) > 1:
        parts += [(f"  {name}", hue) for name, hue in zip(words[1].split(", "), hues, strict=True)]
    width = sum(draw.textlength(text, font) for text, _ in parts)
    draw.rounded_rectangle((10, 10, 30 + width, 42), 6, fill=(14, 17, 20))
    x = 20.0
    for text, color in parts:
        draw.text((x, 26), text, tuple(min(255, value + 45) for value in color), font, anchor="lm")
        x += draw.textlength(text, font)
    return shown


def _save_wipe(path: Path, layers: list[Image.Image]) -> None:
    """Each layer wiped over the one before, round and round."""
    width, height = WIPE_SIZE
    pictures, durations = [], []
    for under, over in zip(layers, [*layers[1:], layers[0]], strict=True):
        pictures.append(under)
        durations.append(REST)
        for step in range(1, STEPS):
            share = step / STEPS
            edge = round(width * share * share * (3 - 2 * share))
            mixed = under.copy()
            mixed.paste(over.crop((0, 0, edge, height)), (0, 0))
            ImageDraw.Draw(mixed).rectangle((edge - 1, 0, edge + 1, height), fill=(255, 255, 255))
            pictures.append(mixed)
            durations.append(50)
    with write_atomically(path) as temporary:
        first, *others = pictures
        first.save(
            temporary, "WEBP", save_all=True, append_images=others, duration=durations, loop=0, quality=80, method=6
        )
    print(path, f"{width} x {height}, {path.stat().st_size / 1e6:.2f} MB")


@contextlib.contextmanager
def _browser(folder: Path) -> Iterator[Any]:
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
        yield browser
    finally:
        browser.quit()


def _wait_for_picture(browser: Any) -> None:
    while not browser.execute_script("return window.polyscale && polyscale.stage.picture !== null"):
        time.sleep(0.2)


def _part(browser: Any, first: str, last: str) -> Image.Image:
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
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
