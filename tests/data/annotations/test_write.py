import json

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from polyscale.data import open_data
from polyscale.data.annotations.label_studio import LabelStudioData
from polyscale.data.annotations.write import TOOLS, export_labels
from polyscale.data.convert import form_of, open_source
from polyscale.errors import UserError
from polyscale.labels import IGNORE, LabelClass, LabelSpace

SPACE = LabelSpace(
    name="street",
    classes=tuple(
        LabelClass(name=name, color=color)
        for name, color in (("road & kerb", (1, 2, 3)), ('"pole"', (250, 0, 0)), ("sky", (0, 0, 250)))
    ),
)


def labels_of(seed, size=(48, 70)):
    """Blobs with holes, lines of one pixel, pixels that touch at corners, and ignored parts."""
    rng = np.random.default_rng(seed)
    labels = (ndimage.gaussian_filter(rng.normal(size=size), 2) > 0).astype(np.uint8) * 2
    labels[:, 10 + seed] = 1
    labels[rng.random(size) > 0.98] = 1
    labels[30:40, 20:30] = IGNORE
    return labels


@pytest.fixture
def root(tmp_path):
    for name, seed in (("day/a", 0), ("day/b", 1), ("night", 2)):
        for folder in ("images", "masks"):
            (tmp_path / "data" / folder / name).parent.mkdir(parents=True, exist_ok=True)
        labels = labels_of(seed)
        Image.fromarray(labels).save(tmp_path / f"data/masks/{name}.png")
        Image.fromarray(np.stack([labels] * 3, axis=2)).save(tmp_path / f"data/images/{name}.jpg")
    SPACE.to_yaml(tmp_path / "data/label_space.yaml")
    return tmp_path / "data"


def read_back(path, root, **options):
    if (path / "mask_targets.json").is_file():
        return open_data(path)
    images = None if path.is_dir() else root / "images"
    return open_source(path, images=images, background=None, **options)[None]


@pytest.mark.parametrize("tool", TOOLS)
def test_what_is_exported_reads_back_as_the_same_pixels(root, tmp_path, tool):
    data = open_data(root)
    path = export_labels(data, tmp_path / "out", tool)
    options = {"classes": SPACE.names} if tool == "label-studio" else {}
    back = read_back(path, root, **options)
    assert form_of(path) == ("masks" if tool == "fiftyone" else tool)
    assert back.label_space.names == SPACE.names
    assert [item.name for item in back.items] == [item.name for item in data.items]
    for index in range(3):
        np.testing.assert_array_equal(back.read_labels(index), data.read_labels(index))


def test_a_tolerance_leaves_corners_out_and_few_pixels_change(root, tmp_path):
    data = open_data(root)
    exact = export_labels(data, tmp_path / "exact", "coco")
    simple = export_labels(data, tmp_path / "simple", "coco", tolerance=1, smallest=4)
    assert simple.stat().st_size < exact.stat().st_size / 2
    labels, wanted = read_back(simple, root).read_labels(0), data.read_labels(0)
    big = ndimage.binary_erosion(wanted == 2, iterations=3)
    assert big.any()
    assert (labels[big] == 2).all()


def test_fiftyone_counts_classes_from_one(root, tmp_path):
    out = export_labels(open_data(root), tmp_path / "out", "fiftyone")
    values = np.asarray(Image.open(out / "labels/day/a.png"))
    labels = open_data(root).read_labels(0)
    np.testing.assert_array_equal(values, np.where(labels == IGNORE, 0, labels + 1))
    assert json.loads((out / "mask_targets.json").read_text()) == {"1": "road & kerb", "2": '"pole"', "3": "sky"}
    assert (out / "data/day/a.jpg").read_bytes() == (root / "images/day/a.jpg").read_bytes()
    with pytest.raises(UserError, match="takes the masks as they are; leave --tolerance and --smallest out"):
        export_labels(open_data(root), tmp_path / "other", "fiftyone", tolerance=1)


def test_labels_that_cannot_be_exported_are_told(root, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a").touch()
    with pytest.raises(UserError, match="is not empty; choose a new folder"):
        export_labels(open_data(root), tmp_path / "full", "coco")
    (root / "data.yaml").write_text("masks: none\n")
    with pytest.raises(UserError, match="has no labels to export"):
        export_labels(open_data(root), tmp_path / "out", "cvat")


def task(**values):
    return {"data": {"image": "/data/local-files/?d=pictures/a.png"}, **values}


def region(points=((0, 0), (50, 0), (50, 50)), **changes):
    value = {"points": points, "polygonlabels": ["car"], **changes}
    return {"type": "polygonlabels", "value": value}


def studio(root, tasks):
    (root / "images").mkdir(exist_ok=True)
    Image.new("RGB", (8, 4)).save(root / "images/a.png")
    (root / "tasks.json").write_text(json.dumps(tasks))
    return root / "tasks.json"


def test_a_persons_annotation_counts_before_a_prediction(tmp_path):
    square = ((0, 0), (100, 0), (100, 100), (0, 100))
    given = task(predictions=[{"result": [region()]}], annotations=[{"result": []}, {"result": [region(square)]}])
    data = LabelStudioData(studio(tmp_path, [given]))
    assert data.label_space.names == ("background", "car")
    assert data.items[0].name == "pictures/a"
    assert data.read_labels(0).all()
    untouched = LabelStudioData(studio(tmp_path, [task(predictions=[{"result": [region(square)]}])]))
    assert untouched.read_labels(0).all()


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({}, "is no list of tasks"),
        ([], "is no list of tasks"),
        ([{"data": {}}], "task 1 names no image"),
        ([task(), task()], "has two tasks of pictures/a.png"),
        ([{"data": {"image": "b.png"}}], r"names b\.png, which is not in"),
        ([{"data": {"image": "../../a.png"}}], "task 1: the file name"),
        ([task(annotations=[{"result": [region(polygonlabels=[])]}])], "has no polygon label"),
        ([task(annotations=[{"result": [{"type": "brushlabels", "value": {"rle": []}}]}])], "type brushlabels"),
        ([task(annotations=[{"result": [region(points=[[1, 2]])]}])], "region 1 of pictures/a: a polygon of 1 corners"),
        ([task(annotations=[{"result": [region(points="x")]}])], "and no polygon; draw one"),
        ([task(annotations=[{"result": [region(points=[[1, 10**400]] * 3)]}])], "and no polygon; draw one"),
        ([{"data": {"image": "http://[a.png"}}], "task 1: .*IPv6"),
    ],
)
def test_a_bad_task_is_one_line(tmp_path, tasks, message):
    with pytest.raises(UserError, match=message) as caught:
        LabelStudioData(studio(tmp_path, tasks)).read_labels(0)
    assert "tasks.json" in str(caught.value)
