import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from polyscale.data.annotations.coco import CocoData
from polyscale.data.annotations.run_lengths import decode_run_lengths, encode_run_lengths
from polyscale.data.annotations.shapes import Drawing
from polyscale.data.polygons import bridge, trace
from polyscale.errors import UserError
from polyscale.labels import IGNORE

SQUARE = [[2, 1, 6, 1, 6, 5, 2, 5]]


def dataset(root, annotations, categories=None, images=None):
    (root / "images").mkdir(exist_ok=True)
    listed = images or [{"id": 7, "file_name": "a.png", "width": 10, "height": 8}]
    for each in listed:
        Image.new("RGB", (10, 8)).save(root / "images" / each["file_name"])
    content = {
        "info": {"year": 2026},
        "images": listed,
        "annotations": [{"id": k, "image_id": 7, **a} for k, a in enumerate(annotations)],
        "categories": categories or [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
    }
    path = root / "instances.json"
    path.write_text(json.dumps(content))
    return path


def test_polygons_become_labels_of_the_categories_by_their_ids(tmp_path):
    data = CocoData(dataset(tmp_path, [{"category_id": 18, "segmentation": SQUARE}]))
    assert data.label_space.names == ("background", "car", "dog")
    wanted = np.zeros((8, 10), int)
    wanted[1:5, 2:6] = 2
    np.testing.assert_array_equal(data.read_labels(0), wanted)
    sample = data.read(0)
    assert (sample.name, sample.image.shape) == ("a", (8, 10, 3))
    ignoring = CocoData(tmp_path / "instances.json", drawing=Drawing(background=None))
    assert ignoring.label_space.names == ("car", "dog")
    assert set(np.unique(ignoring.read_labels(0))) == {1, IGNORE}


def test_run_lengths_as_numbers_and_compressed_give_the_mask(tmp_path):
    from pycocotools import mask as oracle

    mask = np.random.default_rng(0).random((8, 10)) > 0.5
    code = oracle.encode(np.asfortranarray(mask.astype(np.uint8)))
    for counts in (encode_run_lengths(mask), code["counts"].decode()):
        outline = {"size": [8, 10], "counts": counts}
        data = CocoData(dataset(tmp_path, [{"category_id": 3, "segmentation": outline, "iscrowd": 1}]))
        np.testing.assert_array_equal(data.read_labels(0), mask)


@pytest.mark.parametrize("seed", range(3))
def test_compressed_run_lengths_are_those_of_pycocotools(seed):
    from pycocotools import mask as oracle

    noise = np.random.default_rng(seed).normal(size=(200, 301))
    mask = ndimage.gaussian_filter(noise, 4) > 0
    text = oracle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    np.testing.assert_array_equal(decode_run_lengths(text, mask.shape, "a"), mask)
    np.testing.assert_array_equal(decode_run_lengths(encode_run_lengths(mask), mask.shape, "a"), mask)


def test_polygons_are_filled_as_pycocotools_fills_them_on_almost_every_pixel(tmp_path):
    from pycocotools import mask as oracle

    rng = np.random.default_rng(1)
    different = pixels = 0
    for _ in range(40):
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 40)))
        radius = rng.uniform(10, 150, len(angles))
        ring = np.stack([320 + radius * np.cos(angles), 240 + radius * np.sin(angles)], axis=1).round(2)
        code = oracle.merge(oracle.frPyObjects([ring.ravel().tolist()], 480, 640))
        images = [{"id": 7, "file_name": "a.png", "width": 640, "height": 480}]
        path = dataset(tmp_path, [{"category_id": 3, "segmentation": [ring.ravel().tolist()]}], images=images)
        Image.new("RGB", (640, 480)).save(tmp_path / "images/a.png")
        ours = CocoData(path).read_labels(0) == 1
        theirs = oracle.decode(code).astype(bool)
        assert theirs.any()
        different += int((ours != theirs).sum())
        pixels += ours.size
    assert different / pixels < 1e-3


def test_parts_of_an_annotation_are_joined_and_do_not_cut_each_other(tmp_path):
    parts = [[0, 0, 4, 0, 4, 4, 0, 4], [2, 2, 6, 2, 6, 6, 2, 6]]
    labels = CocoData(dataset(tmp_path, [{"category_id": 3, "segmentation": parts}])).read_labels(0)
    assert (labels == 1).sum() == 16 + 16 - 4


def test_the_smaller_region_wins_or_the_later_one(tmp_path):
    small = {"category_id": 18, "segmentation": [[3, 2, 5, 2, 5, 4, 3, 4]]}
    path = dataset(tmp_path, [small, {"category_id": 3, "segmentation": SQUARE}])
    assert (CocoData(path).read_labels(0) == 2).sum() == 4
    assert (CocoData(path, drawing=Drawing(order="file")).read_labels(0) == 2).sum() == 0


def test_some_categories_can_be_chosen_in_an_order(tmp_path):
    path = dataset(tmp_path, [{"category_id": 3, "segmentation": SQUARE}])
    data = CocoData(path, drawing=Drawing(("dog",)))
    assert data.label_space.names == ("background", "dog")
    assert not data.read_labels(0).any()
    with pytest.raises(UserError, match=r"has no class 'cat'.*; its classes are car, dog"):
        CocoData(path, drawing=Drawing(("cat",)))
    many = [{"id": k, "name": f"c{k}"} for k in range(300)]
    with pytest.raises(UserError, match="has 301 classes, more than 255; choose some of them with --classes"):
        CocoData(dataset(tmp_path, [], many))


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ({"category_id": 3, "segmentation": [[1, 1, 2, 2]]}, "annotation 0: a polygon of 2 corners has no inside"),
        ({"category_id": 3, "segmentation": []}, "annotation 0 has a box but no outline"),
        ({"category_id": 3, "segmentation": [[1, "x", 2, 2, 3, 3]]}, "a polygon is a list of pairs of numbers"),
        ({"category_id": 3, "segmentation": {"size": [8, 9], "counts": [72]}}, r"size \[8, 9\], its image \[8, 10\]"),
        ({"category_id": 3, "segmentation": {"size": [8, 10], "counts": [10]}}, "give 10 pixels, but its size 80"),
        ({"category_id": 3, "segmentation": {"size": [8, 10], "counts": "~~"}}, "run lengths are damaged"),
        ({"category_id": 4, "segmentation": SQUARE}, "annotations of category 4, which it does not list"),
        ({"category_id": 3, "image_id": 8, "segmentation": SQUARE}, "annotations of image 8, which it does not list"),
        ({"segmentation": SQUARE}, "an annotation needs image_id and category_id"),
        ({"category_id": 2**64, "segmentation": SQUARE}, "an annotation needs image_id and category_id"),
        ({"category_id": float("inf"), "segmentation": SQUARE}, "an annotation needs image_id and category_id"),
        ({"category_id": 3, "segmentation": 5}, "annotation 0 has a box but no outline"),
        ({"category_id": 3, "segmentation": [[1, 10**400, 2, 2, 3, 3]]}, "a polygon is a list of pairs of numbers"),
        ({"category_id": 3, "segmentation": [[1, 1e300, 2, 2, 3, 3]]}, "a corner lies .* pixels away"),
        ({"category_id": 3, "segmentation": {"size": 8, "counts": [80]}}, "its mask is of size 8"),
        ({"category_id": 3, "segmentation": {"size": [8, 10], "counts": [1e400]}}, "run lengths are damaged"),
    ],
)
def test_a_bad_annotation_is_one_line_that_names_it(tmp_path, annotation, message):
    path = dataset(tmp_path, [annotation])
    with pytest.raises(UserError, match=message) as caught:
        CocoData(path).read_labels(0)
    assert "instances.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_category_without_a_name_and_two_of_one_name_are_told(tmp_path):
    for categories, message in (
        ([{"id": 1}], "a category needs id and name"),
        ([{"id": 1, "name": " "}], "a category needs id and name"),
        ([{"id": 1, "name": "a"}, {"id": 2, "name": "a"}], "two classes named 'a'"),
    ):
        with pytest.raises(UserError, match=message):
            CocoData(dataset(tmp_path, [], categories))


def test_images_that_are_missing_or_of_another_size_are_told(tmp_path):
    path = dataset(tmp_path, [])
    Image.new("RGB", (9, 8)).save(tmp_path / "images/a.png")
    with pytest.raises(UserError, match=r"a\.png is 9 x 8 pixels, but .*instances\.json says 10 x 8"):
        CocoData(path).read_labels(0)
    (tmp_path / "images/a.png").unlink()
    with pytest.raises(UserError, match="names 1 of 1 images that are not in .*--images"):
        CocoData(path)
    for name in ("../a.png", "/etc/a.png"):
        path.write_text(json.dumps({"images": [{"id": 1, "file_name": name, "width": 1, "height": 1}]}))
        with pytest.raises(UserError, match="file name"):
            CocoData(path)


@pytest.mark.parametrize(
    "text", ["", "[1, 2]", '{"images": [', '{"images": [{"id": 1}, ', '{"annotations": [}', "{" * 90000]
)
def test_a_damaged_file_is_one_line(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=r"a\.json") as caught:
        CocoData(tmp_path / "a.json")
    assert "\n" not in str(caught.value)


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("polyscale.data.annotations.streamed_json._BLOCK", 1 << 14)
    path = dataset(tmp_path, [{"category_id": 3, "segmentation": SQUARE}])
    content = json.loads(path.read_text())
    value = {"id": 1, "image_id": 7, "category_id": 3, "segmentation": [[float(k % 9) for k in range(1000)]]}
    text = json.dumps(value)
    with path.open("w") as file:
        file.write('{"annotations": [' + ", ".join([text] * 300))
        file.write('], "images": ' + json.dumps(content["images"]))
        file.write(', "categories": ' + json.dumps(content["categories"]) + "}")
    tracemalloc.start()
    CocoData(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < path.stat().st_size / 4 < 500_000


def test_one_endless_value_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("polyscale.data.annotations.streamed_json._BLOCK", 1 << 10)
    monkeypatch.setattr("polyscale.data.annotations.streamed_json._LONGEST", 1 << 14)
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.write(b'{"info": "')
        file.truncate(1 << 24)
    tracemalloc.start()
    with pytest.raises(UserError, match=r"a\.json is no complete JSON file: a value of more than 16,384 characters"):
        CocoData(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_spaces_between_values_are_passed_over_in_any_number(tmp_path, monkeypatch):
    monkeypatch.setattr("polyscale.data.annotations.streamed_json._BLOCK", 7)
    path = dataset(tmp_path, [{"category_id": 3, "segmentation": SQUARE}])
    path.write_text(path.read_text().replace(",", " \n\t  \r , \n\t    "))
    assert len(CocoData(path)) == 1


def test_holes_survive_as_bridged_polygons_and_as_run_lengths(tmp_path):
    mask = np.ones((8, 10), bool)
    mask[2:5, 3:7] = False
    (region,) = trace(mask)
    annotation = {"category_id": 3, "segmentation": [bridge(region).ravel().tolist()]}
    np.testing.assert_array_equal(CocoData(dataset(tmp_path, [annotation])).read_labels(0), mask)
