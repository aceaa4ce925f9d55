"""The page in a real browser: every control does what it says."""

import json

import numpy as np
import pytest
import torch

from polyscale.attention import AttentionOverViews, ViewAttention
from polyscale.evaluation import Recording, evaluate
from polyscale.looker import see
from polyscale.report import PageData, Table, read_evaluation, write_page, write_report
from polyscale.report import build as build_module
from polyscale.report.embed import film
from polyscale.views import View

SCALES = (0.5, 1.0, 2.0)

pytestmark = pytest.mark.slow


@pytest.fixture
def page(browser, report_page):
    """The report, just opened, at a desk's width."""
    width(browser, 1280)
    return opened(browser, report_page)


def opened(browser, path):
    browser.get(path.as_uri())
    wait(browser, "window.polyscale && polyscale.stage.picture !== null")
    return browser


def width(browser, pixels):
    size = {"width": pixels, "height": 900, "deviceScaleFactor": 1, "mobile": pixels < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def wait(browser, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 120).until(lambda b: b.execute_script(f"return Boolean({condition})"))


def script(browser, text):
    return browser.execute_script(text)


def press(browser, keys, where="document.body"):
    code = {"n": "KeyN", "b": "KeyB"}.get(keys, f"Digit{keys}" if keys.isdigit() else keys)
    event = {"key": keys, "code": code, "bubbles": True, "cancelable": True}
    script(browser, f"{where}.dispatchEvent(new KeyboardEvent('keydown', {json.dumps(event)}))")


def choose(browser, identity, value):
    script(
        browser,
        f"const s = document.getElementById('{identity}'); s.value = {json.dumps(value)};"
        "s.dispatchEvent(new Event('input', {bubbles: true})); s.dispatchEvent(new Event('change', {bubbles: true}));",
    )


def film_order(browser):
    return script(
        browser,
        "return [...document.querySelectorAll('#film-list li:not([hidden])')].map(c => Number(c.dataset.index))",
    )


def test_the_page_complains_of_nothing_and_asks_for_nothing(page):
    assert [line for line in page.get_log("browser") if line["level"] in ("SEVERE", "WARNING")] == []
    fetched = script(page, "return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in fetched if not name.startswith("data:")] == []


def test_names_stay_text(page, fakes):
    hostile = fakes.HostileToys.label_space.names[1]
    assert script(page, "return window.hacked === undefined")
    assert script(page, "return document.querySelectorAll('img[onerror]').length") == 0
    shown = script(page, "return document.body.textContent")
    assert hostile in script(page, "return document.querySelector('#class-list').textContent")
    assert f"{hostile}0" in script(page, "return document.querySelector('#film-list').textContent")
    assert shown.count(hostile) > 12


def test_the_wipe_parts_two_layers(page):
    choose(page, "layer-left", "truth")
    choose(page, "layer-right", "error")
    for value in (0, 25, 100):
        choose(page, "wipe", value)
        assert script(page, "return polyscale.stage.wipe") == pytest.approx(value / 100)
    read = (
        "const c = polyscale.stage; c.drawNow(); return [...c.context.getImageData(5, c.canvas.height / 2, 1, 1).data]"
    )
    left = script(page, read)
    choose(page, "wipe", 0)
    right = script(page, read)
    assert left != right
    assert script(page, "return [polyscale.stage.left, polyscale.stage.right]") == ["truth", "error"]


def test_zoom_and_pan(page):
    for _ in range(3):
        script(page, "document.getElementById('zoom-in').click()")
    assert script(page, "return polyscale.stage.zoom") == pytest.approx(1.6**3)
    script(page, "polyscale.stage.panBy(1e6, 1e6); polyscale.stage.drawNow()")
    assert script(page, "return polyscale.stage.corner.map(Math.round)") == [0, 0]
    script(page, "document.getElementById('zoom-fit').click()")
    assert script(page, "return polyscale.stage.zoom") == 1


def truth_of(network, fakes, index, change, keep=SCALES):
    """Labels that torch fuses when ``change`` is made to the attention of each scale."""
    sample = fakes.HostileToys(fakes.SIZES).read(index)
    image = torch.tensor(sample.image).permute(2, 0, 1)[None].float() / 255
    from polyscale.multiscale import fuse_on_grid

    with torch.no_grad():
        views = see(network, image, SCALES).views
    views = {
        scale: View(view.logits, None if view.attention is None else change(scale, view.attention))
        for scale, view in views.items()
        if scale in keep
    }
    return fuse_on_grid(views, image.shape[-2:]).logits[0].argmax(0).byte().numpy()


def mixed(browser, wishes):
    """Labels that the page fuses for the image it shows."""
    script(browser, "polyscale.stage.picture.maps.delete('mixed')")
    for scale, (kind, value) in wishes.items():
        script(
            browser,
            f"const row = document.querySelector('fieldset[data-scale=\"{scale}\"]');"
            f"row.querySelector('select').value = '{kind}';"
            f"const range = row.querySelector('input'); if (range) range.value = {100 * value};"
            "row.dispatchEvent(new Event('input', {bubbles: true}));",
        )
    wait(browser, "polyscale.stage.picture.maps.get('mixed')")
    return np.array(script(browser, "return [...polyscale.stage.picture.maps.get('mixed').data]"), np.uint8)


WISHES = {
    "as learnt": ({"0.5": ("learnt", 0)}, lambda scale, a: a, SCALES),
    "one forced": ({"0.5": ("force", 0.3)}, lambda scale, a: torch.full_like(a, 0.3) if scale == 0.5 else a, SCALES),
    "one capped": ({"1": ("most", 0.2)}, lambda scale, a: a.clamp_max(0.2) if scale == 1 else a, SCALES),
    "the finest removed": ({"2": ("without", 0)}, lambda scale, a: a, (0.5, 1.0)),
    "the coarsest removed": ({"0.5": ("without", 0)}, lambda scale, a: a, (1.0, 2.0)),
}


@pytest.mark.parametrize("name", WISHES)
def test_the_mixer_fuses_as_torch_does(page, network, fakes, name):
    wishes, change, keep = WISHES[name]
    index = script(page, "return polyscale.stage.picture.index")
    labels = mixed(page, wishes)
    expected = truth_of(network, fakes, index, change, keep).reshape(-1)
    assert (labels == expected).mean() >= 0.999
    wait(page, "document.getElementById('mix-all').textContent.includes('(')")
    assert script(page, "return polyscale.stage.right") == "mixed"


@pytest.mark.parametrize(("maps", "least"), [(1, 0.999), (4, 0.998)])  # this head is far steeper than a learnt one
def test_the_mixer_fuses_as_attention_over_views_does(browser, fakes, tmp_path, maps, least):
    torch.manual_seed(0)
    head = ViewAttention(4, maps=maps)
    torch.nn.init.normal_(head.layers[-1].weight, std=20)
    data = fakes.HostileToys(fakes.SIZES[:2])
    recording = Recording(tmp_path, gallery=None, logits=True)
    model = AttentionOverViews(fakes.Pixels(), head)
    evaluate(model, data, SCALES, compare=True, recording=recording).write(tmp_path)
    write_report(tmp_path / "report.html", [read_evaluation(tmp_path)])
    width(browser, 1280)
    opened(browser, tmp_path / "report.html")
    labels = mixed(browser, {"0.5": ("learnt", 0)})
    fused = np.array(script(browser, "return [...polyscale.stage.picture.maps.get('fused').data]"), np.uint8)
    assert (labels == fused).mean() >= least


def test_the_mixer_fetches_views_beside_the_page(browser, network, fakes, evaluated, tmp_path, monkeypatch):
    monkeypatch.setattr(build_module.embed, "MOST_BYTES", 0)
    write_report(tmp_path / "small.html", [read_evaluation(evaluated)])
    width(browser, 1280)
    opened(browser, tmp_path / "small.html")
    index = script(browser, "return polyscale.stage.picture.index")
    labels = mixed(browser, {"0.5": ("learnt", 0)})
    assert (labels == truth_of(network, fakes, index, lambda scale, a: a).reshape(-1)).mean() >= 0.999
    wait(browser, "document.getElementById('mix-all').textContent.includes('(')")
    for path in (tmp_path / "small_files").glob("views-*"):
        path.unlink()
    opened(browser, tmp_path / "small.html")
    script(browser, "document.querySelector('#mix-half').click()")
    wait(browser, "document.getElementById('status').textContent.includes('keep the folder beside the page')")
    browser.get_log("browser")  # the file that is missing; later tests look for such lines


def test_the_mixer_changes_something_and_scores_it(page, evaluated):
    labels = mixed(page, {"0.5": ("force", 1)})
    index = script(page, "return polyscale.stage.picture.index")
    stored = read_evaluation(evaluated)
    fused = np.array(script(page, "return [...polyscale.stage.picture.maps.get('fused').data]"), np.uint8)
    assert (labels != fused).mean() > 0.01
    score = script(page, "return document.getElementById('mix-image').textContent")
    value, change = float(score.split()[0]), float(score.split("(")[1].rstrip(")").replace("\N{MINUS SIGN}", "-"))
    assert value - change == pytest.approx(film(stored)[index]["score"], abs=0.11)


def test_sorting(page, evaluated):
    items = film(read_evaluation(evaluated))
    choose(page, "film-sort", "score")
    scores = [items[k]["score"] for k in film_order(page)]
    assert len(scores) == len(items)
    assert scores == sorted(scores)
    choose(page, "film-sort", "gain")
    gains = [items[k]["gain"] for k in film_order(page)]
    assert gains == sorted(gains, reverse=True)
    choose(page, "film-sort", "class-2")
    of_class = [items[k]["iou"][2] for k in film_order(page)]
    assert of_class == sorted(of_class)
    choose(page, "film-sort", "class-3")
    assert film_order(page) == [k for k, item in enumerate(items) if item["iou"][3] is not None]


def test_a_click_on_a_mistake_filters_the_film(page, evaluated):
    items = film(read_evaluation(evaluated))
    script(page, "document.querySelector('#confusion-table tbody tr:nth-child(1) td:nth-of-type(3)').click()")
    pixels = {k: n for k, item in enumerate(items) for t, p, n in item["mistakes"] if (t, p) == (0, 2)}
    assert film_order(page) == sorted(pixels, key=lambda k: -pixels[k])
    assert "road taken for pole" in script(page, "return document.getElementById('film-words').textContent")
    wait(page, f"polyscale.stage.picture.index === {film_order(page)[0]}")
    script(page, "document.getElementById('film-clear').click()")
    assert len(film_order(page)) == len(items)


def test_keys(page):
    order = film_order(page)
    press(page, "2")
    assert script(page, "return polyscale.stage.right") == "truth"
    press(page, "n")
    wait(page, f"polyscale.stage.picture.index === {order[1]}")
    press(page, "b")
    assert script(page, "return polyscale.stage.wipe") == 1
    press(page, "b")
    assert script(page, "return polyscale.stage.wipe") == 0
    press(page, "c")
    pressed = "return [...document.querySelectorAll('#class-list button')].map(b => b.getAttribute('aria-pressed'))"
    assert script(page, pressed) == ["true", "false", "false", "false"]
    press(page, "?")
    assert script(page, "return document.getElementById('help').open")
    script(page, "document.getElementById('help').close()")
    stage = "document.getElementById('stage')"
    press(page, "ArrowRight", stage)
    x, y = script(page, "return polyscale.stage.pointed")
    press(page, "ArrowDown", stage)
    assert script(page, "return polyscale.stage.pointed") == [x, y + 1]


def test_the_loupe_begins_at_a_pixel_that_fusion_rescued(page):
    read = "const p = polyscale.stage.picture; const [x, y] = polyscale.stage.pointed; return p.at('{}', x, y)"
    fused, average, truth = (script(page, read.format(name)) for name in ("fused", "average", "truth"))
    assert fused == truth != average


def test_the_loupe_reads_out_every_scale(page):
    script(page, "polyscale.stage.pointed = [40, 50]; polyscale.stage.changed()")
    words = script(page, "return document.getElementById('readout').textContent")
    read = "const p = polyscale.stage.picture; return p.at('{}', 40, 50)"
    names = script(page, "return polyscale.page.classes")
    assert words.startswith(f"40, 50: truth {names[script(page, read.format('truth'))]} ")
    assert f" 2x {names[script(page, read.format('scale-2'))]} " in words
    assert f"fused {names[script(page, read.format('fused'))]} " in words
    weights = [round(100 * script(page, read.format(f"weight-{scale}")) / 255) for scale in ("0.5", "1", "2")]
    assert f"weights {weights[0]} / {weights[1]} / {weights[2]} %" in words


def test_everything_can_be_reached_by_tab_in_order(page):
    stops = script(
        page,
        "return [...document.querySelectorAll('a, button, select, input, summary, [tabindex]')]"
        ".filter(e => e.tabIndex >= 0 && e.offsetParent !== null && !e.disabled).map(e => [e.tagName, e.tabIndex])",
    )
    assert {index for _, index in stops} == {0}  # in the order of the page
    assert stops[0][0] == "A"
    assert script(page, "return document.querySelectorAll('#film-list button[tabindex=\"0\"]').length") == 1
    assert script(page, "return document.querySelectorAll('#confusion-table td[tabindex=\"0\"]').length") == 1


def test_a_click_copies_a_threshold(page):
    script(page, "document.querySelector('[data-copy]').click()")
    wait(page, "document.getElementById('status').textContent.startsWith('Copied: --threshold ')")


@pytest.mark.parametrize("pixels", [390, 820, 900])
def test_no_width_scrolls_sideways(page, pixels):
    width(page, pixels)
    assert script(page, "return document.documentElement.scrollWidth") <= pixels
    outside = (
        "return [...document.querySelectorAll('main > *, .needs-script button, .needs-script select')]"
        ".filter(e => !e.closest('#film-list, .scroll') && e.getBoundingClientRect().right > innerWidth + 1).length"
    )
    assert script(page, outside) == 0


def test_a_plain_page_fits_a_phone_too(browser, tmp_path):
    rows = [["a long name of a row", *["12345.6"] * 9]]
    table = Table("Numbers", ["", *[f"column {k}" for k in range(9)]], rows)
    write_page(tmp_path / "page.html", PageData("Plain", tables=[table], details={"path": "x" * 300}))
    width(browser, 390)
    browser.get((tmp_path / "page.html").as_uri())
    assert script(browser, "return document.documentElement.scrollWidth") <= 390


def test_images_beside_the_page_are_fetched_when_they_are_chosen(browser, evaluated, tmp_path, monkeypatch):
    monkeypatch.setattr(build_module.embed, "MOST_EMBEDDED", 1)
    monkeypatch.setattr(build_module.embed, "MOST_THUMBNAILS", 2)
    stored = read_evaluation(evaluated)
    write_report(tmp_path / "many.html", [stored])
    assert len(list((tmp_path / "many_files").glob("image-*.js"))) == len(stored.about["images"]) - 1
    width(browser, 1280)
    opened(browser, tmp_path / "many.html")
    other = film_order(browser)[-1]
    script(browser, f"document.querySelector('#film-list li[data-index=\"{other}\"] button').click()")
    wait(browser, f"polyscale.stage.picture.index === {other}")
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
    assert script(browser, "return document.documentElement.scrollWidth") <= 1280
    loaded = "[...document.querySelectorAll('#film-list img')].every(i => !i.complete || i.naturalWidth > 0)"
    wait(browser, loaded)
