"""YOLO, LabelMe and CVAT."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from polyscale.data.annotations.cvat import CvatData, rows_of
from polyscale.data.annotations.labelme import LabelMeData
from polyscale.data.annotations.shapes import Drawing
from polyscale.data.annotations.yolo import YoloData, yolo_lines
from polyscale.errors import UserError
from polyscale.labels import IGNORE

SQUARE = [(2, 1), (6, 1), (6, 5), (2, 5)]
WANTED = np.zeros((8, 10), int)
WANTED[1:5, 2:6] = 1


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (10, 8)).save(path)


def yolo(root, *lines, names="[car, dog]"):
    picture(root / "images/train/a.jpg")
    picture(root / "images/val/b.jpg")
    (root / "labels/train").mkdir(parents=True, exist_ok=True)
    (root / "labels/train/a.txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text(f"path: .\ntrain: images/train\nnames: {names}\n")
    return root


def test_yolo_lines_become_labels(tmp_path):
    (line,) = yolo_lines([(0, SQUARE)], (8, 10))
    data = YoloData(yolo(tmp_path, line))
    assert [item.name for item in data.items] == ["train/a", "val/b"]
    assert data.label_space.names == ("background", "car", "dog")
    np.testing.assert_array_equal(data.read_labels(0), WANTED)
    assert not data.read_labels(1).any()  # no label file: nothing on it
    assert YoloData(yolo(tmp_path, names="{0: car, 5: dog}")).label_space.names == ("background", "car", "dog")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2 0.2", "line 1 is a box and no polygon"),
        ("0 0.1 0.1", "line 1: a polygon of 1 corners has no inside"),
        ("0 0.1 0.1 0.2 0.2 0.3", "line 1: 5 coordinates are no pairs"),
        ("7 0.1 0.1 0.2 0.1 0.2 0.2", "class 7 is not among the names"),
        ("car 0.1 0.1 0.2 0.1 0.2 0.2", "a line is a class and coordinates, all numbers"),
    ],
)
def test_a_bad_yolo_line_is_named(tmp_path, line, message):
    with pytest.raises(UserError, match=message) as caught:
        YoloData(yolo(tmp_path, line)).read_labels(0)
    assert "labels/train/a.txt" in str(caught.value)


def test_yolo_labels_of_gigabytes_are_refused_before_they_are_read(tmp_path):
    root = yolo(tmp_path, "0")
    with (root / "labels" / "train" / "a.txt").open("ab") as file:
        file.truncate(2_000_000_000)  # takes no space on the disk
    with pytest.raises(UserError, match=r"a\.txt has 2,000 MB, too much for one image"):
        YoloData(root).read_labels(0)


def test_yolo_needs_names_and_folders(tmp_path):
    for names, message in (("", "has no names of classes"), ('{0: car, 1: ""}', "class 1 has no name")):
        with pytest.raises(UserError, match=message):
            YoloData(yolo(tmp_path, names=names))
    (tmp_path / "other").mkdir()
    (tmp_path / "other/data.yaml").write_text("names: [a]")
    with pytest.raises(UserError, match="needs the folders images and labels"):
        YoloData(tmp_path / "other")


def labelme(root, *shapes, **changes):
    picture(root / "a.png")
    content = {"version": "5", "shapes": shapes, "imagePath": "a.png", "imageHeight": 8, "imageWidth": 10, **changes}
    (root / "a.json").write_text(json.dumps(content))
    return root


def test_labelme_shapes_become_labels(tmp_path):
    shapes = [
        {"label": "car", "points": SQUARE, "shape_type": "polygon"},
        {"label": "bus", "points": [(7, 6), (9, 8)], "shape_type": "rectangle"},
        {"label": "ball", "points": [(8, 2), (8, 0.5)], "shape_type": "circle"},
    ]
    (tmp_path / "settings.json").write_text("{}")
    data = LabelMeData(labelme(tmp_path, *shapes))
    assert data.label_space.names == ("background", "ball", "bus", "car")
    labels = data.read(0).labels
    assert ((labels == 3) == (WANTED == 1)).all()
    # Of a circle of radius 1.5 around a corner of the grid: the pixels whose middles are nearer than that, so four.
    assert [int((labels == k).sum()) for k in (1, 2)] == [4, 4]
    only = LabelMeData(tmp_path, Drawing(("car",), background=None))
    assert set(np.unique(only.read_labels(0))) == {0, IGNORE}
    assert LabelMeData(labelme(tmp_path, *shapes, imagePath="C:\\work\\a.png")).items[0].image == tmp_path / "a.png"


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"label": "car", "points": SQUARE[:2]}, "shape 1: a polygon of 2 corners"),
        ({"label": "car", "points": SQUARE[:1], "shape_type": "rectangle"}, "shape 1: a rectangle is two points"),
        ({"label": "car", "points": SQUARE, "shape_type": "linestrip"}, "shape 1 is a linestrip, which has no inside"),
        ({"label": "", "points": SQUARE}, "a shape without a label; name it"),
    ],
)
def test_a_bad_labelme_shape_is_named(tmp_path, shape, message):
    with pytest.raises(UserError, match=message) as caught:
        LabelMeData(labelme(tmp_path, shape)).read_labels(0)
    assert "a.json" in str(caught.value)


def test_labelme_files_that_do_not_fit_are_told(tmp_path):
    with pytest.raises(UserError, match="there are no JSON files of LabelMe"):
        LabelMeData(tmp_path)
    with pytest.raises(UserError, match=r"has none of the classes cat; it has car"):
        LabelMeData(labelme(tmp_path, {"label": "car", "points": SQUARE}), Drawing(("cat",)))
    with pytest.raises(UserError, match=r"a\.json is about b\.png, which is not beside it"):
        LabelMeData(labelme(tmp_path, imagePath="b.png"))
    with pytest.raises(UserError, match=r"a\.png is 10 x 8 pixels, but .* says 9 x 8"):
        LabelMeData(labelme(tmp_path, {"label": "a", "points": SQUARE}, imageWidth=9)).read_labels(0)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match=r"a\.json is no readable JSON file"):
        LabelMeData(tmp_path)


LABELS = """<meta><task><labels>
<label><name>sky</name><color>#0000ff</color></label><label><name>car</name><color>#ff0000</color></label>
</labels></task></meta>"""


def cvat(root, regions, meta=LABELS, image='name="a.png" width="10" height="8"'):
    picture(root / "images/a.png")
    text = f'<annotations><version>1.1</version>{meta}<image id="0" {image}>{regions}</image></annotations>'
    (root / "annotations.xml").write_text(text)
    return root / "annotations.xml"


POINTS = "2,1;6,1;6,5;2,5"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system knows no named pipes")
def test_a_pipe_among_labelme_files_is_not_waited_for(tmp_path):
    labelme(tmp_path, {"label": "a", "points": SQUARE})
    os.mkfifo(tmp_path / "b.json")
    with pytest.raises(UserError, match=r"b\.json is no regular file"):
        LabelMeData(tmp_path)


def test_a_json_file_that_is_too_large_to_be_read_whole_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("polyscale.data.annotations.reading._LARGEST", 10)
    with pytest.raises(UserError, match=r"a\.json has 0 MB, more than can be read at once; export it in parts"):
        LabelMeData(labelme(tmp_path, {"label": "a", "points": SQUARE}))


def test_cvat_regions_become_labels(tmp_path):
    region = f'<polygon label="car" points="{POINTS}" z_order="0"/>'
    data = CvatData(cvat(tmp_path, region))
    assert data.label_space.names == ("background", "sky", "car")
    assert data.label_space.palette.tolist() == [[0, 0, 0], [0, 0, 255], [255, 0, 0]]
    np.testing.assert_array_equal(data.read_labels(0), 2 * WANTED)
    box = '<box label="car" xtl="2" ytl="1" xbr="6" ybr="5"/>'
    np.testing.assert_array_equal(CvatData(cvat(tmp_path, box)).read_labels(0), 2 * WANTED)
    mask = np.random.default_rng(0).random((4, 5)) > 0.5
    counts = ",".join(map(str, rows_of(mask)))
    run = f'<mask label="sky" rle="{counts}" left="3" top="2" width="5" height="4"/>'
    labels = CvatData(cvat(tmp_path, run)).read_labels(0)
    np.testing.assert_array_equal(labels[2:6, 3:8], mask)
    assert labels.sum() == mask.sum()


def test_cvat_layers_decide_before_the_order_of_the_file(tmp_path):
    first = f'<polygon label="car" points="{POINTS}" z_order="1"/>'
    second = '<polygon label="sky" points="0,0;10,0;10,8;0,8" z_order="0"/>'
    assert (CvatData(cvat(tmp_path, first + second)).read_labels(0) == 2).sum() == 16
    same = first.replace('z_order="1"', 'z_order="0"')
    assert (CvatData(cvat(tmp_path, same + second)).read_labels(0) == 2).sum() == 0
    assert (
        CvatData(cvat(tmp_path, same + second), drawing=Drawing(order="small-on-top")).read_labels(0) == 2
    ).sum() == 16


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ('<polygon label="car" points="1,1;2,2"/>', "region 1 of a: a polygon of 2 corners"),
        ('<polygon label="car" points="1,1;x,2;3,3"/>', "region 1 of a: its numbers are damaged"),
        (f'<polygon label="" points="{POINTS}"/>', "region 1 of a has no label"),
        ('<polyline label="car" points="1,1;2,2;3,3"/>', "is a polyline, which has no inside"),
        ('<mask label="car" rle="5,5" left="9" top="0" width="5" height="2"/>', "its mask leaves the image"),
        ('<mask label="car" rle="5,9999999999999" left="0" top="0" width="5" height="2"/>', "not those of its box"),
        ('<mask label="car" rle="-5,15" left="0" top="0" width="5" height="2"/>', "its numbers are damaged"),
    ],
)
def test_a_bad_cvat_region_is_named(tmp_path, regions, message):
    with pytest.raises(UserError, match=message) as caught:
        CvatData(cvat(tmp_path, regions)).read_labels(0)
    assert "annotations.xml" in str(caught.value)


def test_cvat_files_that_do_not_fit_are_told(tmp_path):
    path = cvat(tmp_path, "", image='name="b.png" width="10" height="8"')
    with pytest.raises(UserError, match=r"names b\.png, which is not in .*--images"):
        CvatData(path)
    with pytest.raises(UserError, match="an image needs name, width and height"):
        CvatData(cvat(tmp_path, "", image='name="a.png"'))
    with pytest.raises(UserError, match="declares a label without a name"):
        CvatData(cvat(tmp_path, "", meta="<meta><label><name> </name></label></meta>"))
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">]><annotations>&b;</annotations>'
    for text, message in (
        ("<annotations><image", "is no complete XML file"),
        ("<annotations/>", "has no image elements"),
        (bomb, "declares document types or entities"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            CvatData(path)


def test_a_circle_whose_corners_are_no_numbers_is_told(tmp_path):
    shape = {"label": "ball", "points": [[{"a": 1}, 2], [3, 4]], "shape_type": "circle"}
    with pytest.raises(UserError, match="shape 1: a circle is two points"):
        LabelMeData(labelme(tmp_path, shape)).read_labels(0)


@pytest.mark.parametrize("far", [1e308, -1e12, 10**400])
def test_a_corner_out_of_reach_is_told(tmp_path, far):
    shape = {"label": "car", "points": [*SQUARE, (far, 2)]}
    with pytest.raises(UserError, match=r"shape 1: a (corner lies .* pixels away|polygon is a list of pairs)"):
        LabelMeData(labelme(tmp_path, shape)).read_labels(0)


def test_cvat_elements_in_elements_without_end_are_refused(tmp_path):
    (tmp_path / "a.xml").write_text("<a>" * 100_000)
    with pytest.raises(UserError, match=r"a\.xml nests elements too deeply"):
        CvatData(tmp_path / "a.xml")


@pytest.mark.parametrize("encoding", ["uts-8", "utf-7", "rot13"])
def test_cvat_in_an_encoding_that_is_not_known_is_told(tmp_path, encoding):
    path = cvat(tmp_path, "")
    path.write_text(f'<?xml version="1.0" encoding="{encoding}"?>{path.read_text()}')
    with pytest.raises(UserError, match=r"annotations\.xml is no complete XML file"):
        CvatData(path)


def test_cvat_with_damaged_colours_and_layers_is_read(tmp_path):
    regions = "".join(
        f'<polygon label="car" points="{POINTS}" z_order="{order}"/>' for order in ("--5", "9" * 5000, "x")
    )
    meta = LABELS.replace("#ff0000", "#gg0000")
    np.testing.assert_array_equal(CvatData(cvat(tmp_path, regions, meta)).read_labels(0), 2 * WANTED)


def test_cvat_regions_of_classes_that_are_not_declared_are_told(tmp_path):
    path = cvat(tmp_path, '<polygon label="cat" points="1,1;2,2;3,1"/>')
    with pytest.raises(UserError, match=r"has regions of class 'cat', which it does not declare \(sky, car\)"):
        CvatData(path)
    with pytest.raises(UserError, match=r"has no class 'bus'.*; its classes are sky, car"):
        CvatData(path, drawing=Drawing(("bus",)))
