"""The page in a real browser: an image goes in, everything of it can be seen and fused anew."""

import json

import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def page(browser, server):
    size = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(server.url)
    browser.get_log("browser")
    wait(browser, "window.polyscale")
    return browser


def wait(browser, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 120).until(lambda b: b.execute_script(f"return Boolean({condition})"))


def script(browser, text):
    return browser.execute_script(text)


@pytest.fixture
def shown(page, photo, tmp_path):
    """The page with an image chosen as a person does."""
    (tmp_path / "street <i>1.png").write_bytes(photo)
    page.find_element("id", "file").send_keys(str(tmp_path / "street <i>1.png"))
    wait(page, "polyscale.stage.picture")
    return page


def titles(browser):
    return script(browser, "return [...document.querySelectorAll('#layer-right option')].map(o => o.text)")


def test_an_image_shows_every_layer(shown):
    expected = ["Photograph", "Fused", "0.5x alone", "1x alone", "2x alone", "Average", "Trust", "Confidence"]
    assert titles(shown) == expected
    assert script(shown, "return document.getElementById('stage-name').textContent").startswith(
        "street <i>1.png · 90 x 60"
    )
    assert [line for line in shown.get_log("browser") if line["level"] in ("SEVERE", "WARNING")] == []


def test_the_pointer_reads_out_every_scale(shown):
    script(shown, "polyscale.stage.pointed = [40, 30]; polyscale.stage.changed()")
    words = script(shown, "return document.getElementById('readout').textContent")
    read = "const p = polyscale.stage.picture; return p.at('{}', 40, 30)"
    names = script(shown, "return polyscale.page.classes")
    assert words.startswith(f"40, 30: 0.5x {names[script(shown, read.format('scale-0.5'))]} ")
    weights = [round(100 * script(shown, read.format(f"weight-{scale}")) / 255) for scale in ("0.5", "1", "2")]
    assert f"weights {weights[0]} / {weights[1]} / {weights[2]} %" in words


def mixed(browser, wishes):
    script(browser, "polyscale.stage.picture.maps.delete('mixed')")
    for scale, (kind, value) in wishes.items():
        script(
            browser,
            f"const row = document.querySelector('fieldset[data-scale=\"{scale}\"]');"
            f"row.querySelector('select').value = '{kind}'; row.querySelector('input').value = {value};"
            "row.dispatchEvent(new Event('input', {bubbles: true}));",
        )
    wait(browser, "polyscale.stage.picture.maps.get('mixed')")
    return np.array(script(browser, "return [...polyscale.stage.picture.maps.get('mixed').data]"), np.uint8)


def of(browser, name):
    return np.array(script(browser, f"return [...polyscale.stage.picture.maps.get('{name}').data]"), np.uint8)


def test_sliders_fuse_anew(shown):
    rows = "return [...document.querySelectorAll('#mixer fieldset')].filter(f => !f.hidden).map(f => f.dataset.scale)"
    assert script(shown, rows) == ["0.5", "1", "2"]
    assert (mixed(shown, {"0.5": ("learnt", 0)}) == of(shown, "fused")).mean() >= 0.98
    wait(shown, "document.getElementById('mix-image').textContent === '0.0 %'")
    assert (mixed(shown, {"0.5": ("force", 100)}) == of(shown, "scale-0.5")).mean() >= 0.99
    wait(shown, "document.getElementById('mix-image').textContent !== '0.0 %'")
    alone = {"0.5": ("without", 0), "1": ("force", 0), "2": ("learnt", 0)}
    assert (mixed(shown, alone) == of(shown, "scale-2")).mean() >= 0.99


def test_a_network_that_averages_is_mixed_as_probabilities(page, averaging, photo, tmp_path):
    page.get(averaging.url)
    wait(page, "window.polyscale")
    (tmp_path / "a.png").write_bytes(photo)
    page.find_element("id", "file").send_keys(str(tmp_path / "a.png"))
    wait(page, "polyscale.stage.picture")
    weights = "return [...document.querySelectorAll('#mixer fieldset:not([hidden]) output.weight')].map(o => o.value)"
    # The network averages at the image's size, the page on the grid: blocks of strong colours differ along their edges.
    assert (mixed(page, {"0.5": ("learnt", 0)}) == of(page, "fused")).mean() >= 0.9
    wait(page, "document.getElementById('mix-image').textContent === '0.0 %'")
    assert script(page, weights) == ["33 %", "33 %", "33 %"]
    mixed(page, {"0.5": ("force", 100)})
    wait(page, "document.getElementById('mix-image').textContent !== '0.0 %'")
    assert script(page, weights) == ["100 %", "0 %", "0 %"]


def test_other_scales_look_again(shown):
    script(shown, "document.querySelector('#scales input[value=\"2\"]').click()")
    script(shown, "document.querySelector('#scales input[value=\"0.75\"]').click()")
    wait(shown, "polyscale.stage.picture.maps.has('scale-0.75') && !polyscale.stage.picture.maps.has('scale-2')")
    assert titles(shown)[2:5] == ["0.5x alone", "0.75x alone", "1x alone"]


def test_dropping_and_pasting(page, photo):
    for name in ("drop", "paste"):
        field = "dataTransfer" if name == "drop" else "clipboardData"
        kind = "DragEvent" if name == "drop" else "ClipboardEvent"
        script(
            page,
            "const t = new DataTransfer();"
            f"t.items.add(new File([new Uint8Array({json.dumps(list(photo))})], '{name}.png'));"
            f"document.dispatchEvent(new {kind}('{name}', {{{field}: t, bubbles: true, cancelable: true}}))",
        )
        wait(page, f"document.getElementById('stage-name').textContent.startsWith('{name}.png')")


def test_what_is_wrong_stands_in_one_line(page, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    page.find_element("id", "file").send_keys(str(tmp_path / "broken.png"))
    wait(page, "document.getElementById('problem').textContent")
    problem = script(page, "return document.getElementById('problem').textContent")
    assert problem.startswith("broken.png is not an image that can be read")
    script(page, "polyscale.look(new File([new Uint8Array(64000001)], 'huge.png'))")
    wait(page, "document.getElementById('problem').textContent.startsWith('huge.png has 64 MB')")


@pytest.mark.parametrize("pixels", [390, 820])
def test_no_width_scrolls_sideways(shown, pixels):
    size = {"width": pixels, "height": 900, "deviceScaleFactor": 1, "mobile": pixels < 500}
    shown.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert script(shown, "return document.documentElement.scrollWidth") <= pixels
