import numpy as np
import pytest
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
