"""Supervisely: bitmaps, polygons with holes, and files that are not what they say."""

import base64
import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image

from polyscale.data.annotations.shapes import Drawing
from polyscale.data.annotations.supervisely import SuperviselyData
from polyscale.data.convert import form_of
from polyscale.errors import UserError

SQUARE = [[2, 1], [5, 1], [5, 5], [2, 5]]


def polygon(exterior=SQUARE, interior=(), title="car", kind="polygon"):
    points = {"exterior": exterior, "interior": interior}
    return {"classTitle": title, "geometryType": kind, "points": points}


def bitmap(content, origin=(0, 0), title="car"):
    data = base64.b64encode(zlib.compress(content)).decode()
    return {"classTitle": title, "geometryType": "bitmap", "bitmap": {"data": data, "origin": origin}}


def png(pixels, mode="L", **options):
    file = io.BytesIO()
    image = Image.fromarray(np.asarray(pixels, np.uint8))
    if mode == "P":
        image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(file, "PNG", **options)
    return file.getvalue()


def project(root, *objects, classes=({"title": "car", "color": "#ff0080"}, {"title": "dog"}), folder="ds0", **changes):
    (root / folder / "img").mkdir(parents=True, exist_ok=True)
    (root / folder / "ann").mkdir(exist_ok=True)
    Image.new("RGB", (10, 8)).save(root / folder / "img/a.png")
    content = {"size": {"height": 8, "width": 10}, "objects": list(objects), **changes}
    (root / folder / "ann/a.png.json").write_text(json.dumps(content))
    (root / "meta.json").write_text(json.dumps({"classes": classes, "tags": []}))
    return root


def test_corners_are_middles_of_pixels_and_edges_of_holes_stay(tmp_path):
    hole = [[3, 2], [5, 2], [5, 4], [3, 4]]
    root = project(tmp_path, polygon([[1, 1], [7, 1], [7, 6], [1, 6]], [hole]), folder="day")
    assert form_of(root) == form_of(root / "day") == "supervisely"
    data = SuperviselyData(root)
    assert data.items[0].name == "day/a"
    assert data.label_space.names == ("background", "car", "dog")
    assert data.label_space.classes[1].color == (255, 0, 128)
    wanted = np.zeros((8, 10), int)
    wanted[1:7, 1:8] = 1
    wanted[3, 4] = 0  # of the hole's 3 x 3 pixels the middle one
    np.testing.assert_array_equal(data.read_labels(0), wanted)
    assert SuperviselyData(root / "day").items[0].name == "a"


@pytest.mark.parametrize("content", [png([[1, 0], [1, 1]]), png([[1, 0], [1, 1]], "P", transparency=0)])
def test_later_objects_lie_on_top_and_the_default_dataset_is_no_name(tmp_path, content):
    rectangle = polygon([[7, 2], [4, 1]], kind="rectangle", title="dog")
    data = SuperviselyData(project(tmp_path, rectangle, bitmap(content, (3, 2))), Drawing(background=None))
    assert data.items[0].name == "a"
    wanted = np.full((8, 10), 255)
    wanted[1:3, 4:8] = 1
    wanted[2:4, 3] = 0
    wanted[3, 4] = 0
    np.testing.assert_array_equal(data.read(0).labels, wanted)


def bomb():
    """A hundred megabytes of nothing in a hundred kilobytes."""
    return {**bitmap(b""), "bitmap": {"data": base64.b64encode(zlib.compress(bytes(10**8))).decode(), "origin": (0, 0)}}


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (polygon(SQUARE[:2]), "object 1: a polygon of 2 corners has no inside"),
        (polygon(interior=[SQUARE[:2]]), "object 1: a polygon of 2 corners has no inside"),
        (polygon("x"), "has points.exterior and points.interior"),
        (polygon([[1, 1]], kind="rectangle"), "object 1: a rectangle is two points"),
        (polygon(kind="line"), "object 1 is a line, which has no inside"),
        (polygon(title=""), "object 1 has no classTitle"),
        (polygon(title="cat"), r"is of class 'cat', which meta.json does not list \(car, dog\)"),
        (bitmap(png(np.ones((2, 2))), (9, 0)), "bitmap of 2 x 2 pixels leaves the image"),
        (bitmap(png(np.ones((2, 2))), (-1, 0)), "leaves the image"),
        (bitmap(png(np.zeros((9, 2)))), "its bitmap is larger than its image"),
        (bitmap(b"no PNG"), r"its bitmap is damaged \(UnidentifiedImageError\)"),
        (bitmap(png(np.ones((8, 10)))[:-20]), "its bitmap is damaged"),
        ({**bitmap(b""), "bitmap": {"data": "AAAA", "origin": (0, 0)}}, r"its bitmap is damaged \(error\)"),
        ({**bitmap(b""), "bitmap": {"data": "*", "origin": (0, 0)}}, "has base64 data and an origin"),
        ({**bitmap(b""), "bitmap": None}, "has base64 data and an origin"),
        (bomb(), "unpacks to more than its image of 10 x 8 can need"),
    ],
)
def test_a_bad_object_is_named(tmp_path, thing, message):
    with pytest.raises(UserError, match=message) as caught:
        SuperviselyData(project(tmp_path, thing)).read_labels(0)
    assert "a.png.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ()}, "lists no classes"),
        ({"classes": ({"title": " "},)}, "class 1 has no title; name it"),
        ({"classes": ({"title": "car"}, {"title": "car"})}, "has two classes named 'car'"),
        ({"size": {"height": 8}}, "needs size.height and size.width"),
        ({"size": {"height": 9, "width": 10}}, r"a\.png is 10 x 8 pixels, but .* says 10 x 9"),
        ({"size": {"height": 10**9, "width": 10**9}, "objects": [bomb()]}, r"a\.png is 10 x 8 pixels, but"),
        ({"objects": 3}, "has no list of objects"),
    ],
)
def test_a_bad_project_is_told(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        SuperviselyData(project(tmp_path, **changes)).read_labels(0)


def test_missing_files_are_told(tmp_path):
    with pytest.raises(UserError, match=r"has no meta\.json"):
        SuperviselyData(tmp_path)
    root = project(tmp_path / "p")
    (root / "ds0/img/a.png").unlink()
    with pytest.raises(UserError, match=r"annotations of .*a\.png, which is missing"):
        SuperviselyData(root)
    (root / "ds0/ann/a.png.json").write_text("{")
    with pytest.raises(UserError, match="is no readable JSON file"):
        SuperviselyData(root)
    (root / "ds0/ann/a.png.json").unlink()
    with pytest.raises(UserError, match="holds no annotations"):
        SuperviselyData(root)
