import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from polyscale.errors import UserError


@pytest.fixture
def prediction(predictor, photo):
    return predictor.predict(photo())


def test_saved_files_hold_the_result(prediction, space, tmp_path):
    written = prediction.save(tmp_path, "day/frame.01")
    names = {path.relative_to(tmp_path).as_posix() for path in written}
    assert names == {
        "labels/day/frame.01.png",
        "overlay/day/frame.01.jpg",
        "confidence/day/frame.01.png",
        "attention/day/frame.01_0.5x.png",
        "attention/day/frame.01_1x.png",
        "attention/day/frame.01_2x.png",
    }
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(written)  # and no temporary files

    def read(name):
        return np.array(Image.open(tmp_path / name))

    np.testing.assert_array_equal(space.encode(read("labels/day/frame.01.png")), prediction.labels)
    confidence = read("confidence/day/frame.01.png")
    assert confidence.dtype == np.uint8
    np.testing.assert_allclose(confidence / 255, prediction.confidence, atol=0.5 / 255 + 1e-6)
    for scale, weight in prediction.attention.items():
        np.testing.assert_allclose(read(f"attention/day/frame.01_{scale:g}x.png") / 255, weight, atol=0.5 / 255 + 1e-6)
    overlay = read("overlay/day/frame.01.jpg").astype(int)
    assert np.abs(overlay - np.array(prediction.overlay())).mean() < 8


def test_some_outputs_only(prediction, tmp_path):
    written = prediction.save(tmp_path, "a", ("labels",))
    assert [path.relative_to(tmp_path).as_posix() for path in written] == ["labels/a.png"]
    assert prediction.save(tmp_path, "a", ("labels",)) == written  # an older result is replaced
    for outputs, named in ((("masks",), "'masks'"), ((), "(none)")):
        with pytest.raises(UserError) as raised:
            prediction.save(tmp_path, "a", outputs)
        assert named in str(raised.value)


def test_pictures_of_a_prediction(prediction):
    size = prediction.labels.shape[::-1]
    shown = (
        prediction.overlay(0.3),
        prediction.labels_image(),
        prediction.confidence_image(),
        prediction.attention_image(2),
    )
    assert [picture.size for picture in shown] == [size] * 4
    assert [picture.mode for picture in shown] == ["RGB", "P", "L", "P"]
    with pytest.raises(UserError, match=r"no attention for scale 3; this prediction has 2, 1, 0\.5"):
        prediction.attention_image(3)


def test_a_folder_that_cannot_be_written(prediction, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        prediction.save(tmp_path / "file", "a")


def test_a_picture_longer_than_jpeg_allows_is_saved_as_png(predictor, tmp_path):
    long = predictor.predict(np.zeros((1, 66_000, 3), np.uint8), scales=(1,))
    (overlay,) = long.save(tmp_path, "strip", ("overlay",))
    assert overlay.suffix == ".png"
    with Image.open(overlay) as picture:
        assert picture.size == (66_000, 1)


def test_a_notebook_shows_the_overlay_above_a_legend_of_what_is_there(prediction):
    shown = Image.open(io.BytesIO(prediction._repr_png_()))
    height, width = prediction.labels.shape
    assert shown.format == "PNG"
    np.testing.assert_array_equal(np.array(shown)[:height, :width], np.array(prediction.overlay()))
    below = np.array(shown)[height:].reshape(-1, 3)
    for train_id, color in enumerate(prediction.label_space.palette):
        there = bool((below == color).all(1).any())
        assert there == bool((prediction.labels == train_id).any()), train_id


def test_a_wide_picture_is_made_smaller_in_a_notebook(predictor, photo):
    shown = Image.open(io.BytesIO(predictor.predict(photo(60, 1500))._repr_png_()))
    assert shown.width == 1024


def test_as_arrays_and_tensors(prediction):
    np.testing.assert_array_equal(np.asarray(prediction), prediction.labels)
    assert np.array(prediction, dtype=np.int64).dtype == np.int64
    tensors = prediction.tensors()
    assert tensors["labels"].dtype == torch.int64
    torch.testing.assert_close(tensors["probabilities"].argmax(0), tensors["labels"])
    assert set(replace(prediction, probabilities=None).tensors()) == {"labels", "confidence"}


@pytest.mark.parametrize("rle", [False, True])
def test_coco_reads_back_the_same_pixels(prediction, rle):
    """By pycocotools, the format's own library."""
    from pycocotools.coco import COCO

    values = json.loads(json.dumps(prediction.to_coco("photo.jpg", 7, rle=rle)))
    coco = COCO()
    coco.dataset = values
    coco.createIndex()
    for train_id, name in enumerate(prediction.label_space.names):
        own = [a for a in values["annotations"] if coco.cats[a["category_id"]]["name"] == name]
        truth = prediction.labels == train_id
        assert bool(own) == bool(truth.any())
        if rle:
            assert len(own) <= 1
            if own:
                np.testing.assert_array_equal(coco.annToMask(own[0]).astype(bool), truth)
                np.testing.assert_allclose(own[0]["score"], prediction.confidence[truth].mean(), atol=1e-4)
        assert sum(a["area"] for a in own) == truth.sum()
        assert all(0 < a["score"] <= 1 for a in own)
        drawn = np.zeros(truth.shape, int)
        for annotation in own:
            left, top, width, height = annotation["bbox"]
            drawn[int(top) : int(top + height), int(left) : int(left + width)] = 1
        assert (drawn >= truth).all()  # the boxes hold every pixel
    assert values["images"] == [{"id": 7, "file_name": "photo.jpg", "height": 33, "width": 47}]


def test_small_regions_can_be_left_out_of_coco(prediction):
    every = prediction.to_coco()["annotations"]
    large = prediction.to_coco(smallest=20)["annotations"]
    assert 0 < len(large) < len(every)
    assert min(annotation["area"] for annotation in large) >= 20
