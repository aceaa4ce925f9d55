import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from polyscale.errors import UserError
from polyscale.pictures import heat_map
from polyscale.report import (
    Card,
    ClassResult,
    Curve,
    Example,
    PageData,
    Picture,
    Strip,
    Table,
    render_page,
    write_page,
)
from polyscale.report.page import data_uri

VOID = {"meta", "img", "link", "br", "line", "path", "circle"}


class Reader(HTMLParser):
    """Gathers elements and texts, and holds that every element is closed."""

    def __init__(self, page):
        super().__init__()
        self.open, self.elements, self.text = [], [], ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def picture(color):
    return Picture(f"Picture {color}", Image.new("RGB", (20, 10), color))


@pytest.fixture
def data():
    """A page with every part; the numbers mean nothing."""
    return PageData(
        title="Title of the page",
        summary="What came out.",
        cards=[Card("mIoU", "61.2 %", "of a network"), Card("Time", "3 s")],
        examples=[
            Example("val/1", [Strip([picture("red"), picture("blue")]), Strip([picture("green")], "Heat", heat=True)])
        ],
        classes=[
            ClassResult("road", (1, 2, 3)),
            ClassResult("train", (4, 5, 6)),
        ],
        curves=[Curve("Loss", [(step, 1 / (1 + step)) for step in range(50)], noisy=True)],
        details={"Seed": "1"},
        footer="The end.",
    )


def test_everything_given_is_on_the_page(data):
    reader = Reader(render_page(data))
    for text in (
        *("Title of the page", "What came out.", "61.2 %", "of a network"),
        *("val/1", "Picture red", "Heat", "road", "train", "Loss", "Seed", "The end."),
    ):
        assert text in reader.text
    assert len(reader.all("img")) == 3 + 1  # and the place of the enlarged picture
    assert len(reader.all("svg")) == 1


def test_the_page_asks_nothing_of_the_network(data):
    page = render_page(data)
    assert "http:" not in page
    assert "https:" not in page
    assert "//" not in re.sub(r"base64,[^\"]+|^\s*// .*$", "", page, flags=re.MULTILINE)
    assert "@import" not in page
    reader = Reader(page)
    assert reader.all("link") == []
    assert all(image["src"].startswith("data:image/") for image in reader.all("img") if "src" in image)
    assert all("src" not in script for script in reader.all("script"))
    (policy,) = [meta["content"] for meta in reader.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_a_page_of_a_title_only():
    reader = Reader(render_page(PageData("Alone")))
    assert reader.text.count("Alone") == 2  # as title and as heading
    for absent in ("table", "svg", "img", "section", "dialog", "script", "dl"):
        assert reader.all(absent) == []


@pytest.mark.parametrize("part", ["summary", "cards", "examples", "curves", "details", "footer"])
def test_each_part_can_be_left_out_or_stand_alone(data, part):
    values = {name: getattr(data, name) for name in PageData.__dataclass_fields__}
    alone = Reader(render_page(PageData("Alone", **{part: values[part]})))
    without = {name: value for name, value in values.items() if name != part}
    rest = Reader(render_page(PageData(**without)))
    whole = Reader(render_page(data))
    assert len(alone.elements) > len(Reader(render_page(PageData("Alone"))).elements)
    assert len(rest.elements) < len(whole.elements)


def test_text_is_escaped():
    evil = '<script>alert("x")</script>&"\''
    page = render_page(
        PageData(
            evil,
            summary=evil,
            cards=[Card(evil, evil, evil)],
            examples=[Example(evil, [Strip([Picture(evil, Image.new("RGB", (2, 2)), evil)], evil)], evil)],
            classes=[ClassResult(evil, (0, 0, 0))],
            curves=[Curve(evil, [(0, 1), (1, 2)])],
            details={evil: evil},
            footer=evil,
        )
    )
    assert "<script>alert" not in page
    reader = Reader(page)
    assert len(reader.all("script")) == 1
    assert reader.text.count(evil) >= 11
    assert all(image.get("alt") == evil for image in reader.all("img") if "src" in image)


def test_every_picture_has_a_text_for_those_who_cannot_see_it(data):
    reader = Reader(render_page(data))
    assert all(image["alt"] for image in reader.all("img") if "src" in image)
    assert all(button.get("aria-label") or button.get("class") == "zoom" for button in reader.all("button"))
    (chart,) = reader.all("svg")
    assert chart["aria-label"].startswith("Loss: from 1 at step 0 to 0.02 at step 49")


def test_a_page_is_written_in_one_step(data, tmp_path):
    write_page(tmp_path / "new" / "page.html", data)
    assert (tmp_path / "new" / "page.html").read_text(encoding="utf-8") == render_page(data)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        write_page(tmp_path / "file" / "page.html", data)


def decoded(uri):
    kind, _, content = uri.partition(";base64,")
    return kind, Image.open(io.BytesIO(base64.b64decode(content)))


def test_label_maps_stay_exact_and_photos_become_jpeg():
    rng = np.random.default_rng(0)
    labels = np.array([[0, 0, 0], [128, 64, 128], [244, 35, 232]], np.uint8)[rng.integers(0, 3, (30, 40))]
    kind, picture = decoded(data_uri(Image.fromarray(labels)))
    assert kind == "data:image/png"
    np.testing.assert_array_equal(np.array(picture.convert("RGB")), labels)
    smooth = np.linspace(0, 255, 60 * 80 * 3).reshape(60, 80, 3).astype(np.uint8)
    kind, picture = decoded(data_uri(Image.fromarray(smooth)))
    assert kind == "data:image/jpeg"
    assert np.abs(np.array(picture).astype(int) - smooth).mean() < 4
    kind, picture = decoded(data_uri(heat_map(np.linspace(0, 1, 5000).reshape(50, 100))))
    assert kind == "data:image/jpeg"
    assert picture.size == (100, 50)


def test_large_pictures_are_embedded_smaller():
    _, picture = decoded(data_uri(Image.new("L", (4000, 10))))
    assert picture.size == (1600, 4)


def test_rendering_needs_no_torch():
    script = "import sys, polyscale.report; print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert shown == "False\n"


def test_tables_and_curves_of_another_kind_have_their_own_headings():
    table = Table("At each <threshold>", ["threshold", "precision"], [["0.5", "81.5"], ["0.9", "-"]], "In percent.")
    curve = Curve("road", [(10.0, 0.5), (90.0, 0.25)], "percent", x_name="coverage")
    data = PageData(
        "Audit", tables=[table], curves=[curve], curves_title="Precision over coverage", curves_note="Dots."
    )
    page = render_page(data)
    reader = Reader(page)
    for text in ("At each <threshold>", "In percent.", "0.5", "81.5", "0.9", "Precision over coverage", "Dots."):
        assert text in reader.text
    assert "Training" not in reader.text
    (chart,) = reader.all("svg")
    assert chart["aria-label"] == "road: from 50 at coverage 10 to 25 at coverage 90"
    assert len(reader.all("table")) == 1
    assert "<table" not in render_page(PageData("Empty"))
