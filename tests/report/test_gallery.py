import numpy as np
import pytest

from polyscale.labels import IGNORE, LabelSpace
from polyscale.report import example

SPACE = LabelSpace.model_validate(
    {"classes": [{"name": "road", "color": (9, 8, 7)}, {"name": "sky", "color": (1, 2, 3)}]}
)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return image, rng.integers(0, 2, (6, 8)).astype(np.uint8), rng.integers(0, 2, (6, 8)).astype(np.uint8)


def captions(strip):
    return [picture.caption for picture in strip.pictures]


def test_all_pictures_in_reading_order(arrays):
    image, truth, prediction = arrays
    truth[0] = IGNORE
    weights = {2.0: np.full((6, 8), 0.1), 0.5: np.full((6, 8), 0.9)}
    shown = example("val/1", image, prediction, SPACE, truth, weights, {1.0: truth, 0.5: prediction}, "a note")
    first, alone, attention = shown.strips
    assert (shown.name, shown.note) == ("val/1", "a note")
    assert captions(first) == ["Input", "Truth", "Prediction", "Error"]
    assert captions(alone) == ["0.5x alone", "1x alone", "All together"]
    assert captions(attention) == ["Weight of 0.5x", "Weight of 2x"]
    assert [strip.heat for strip in shown.strips] == [False, False, True]
    np.testing.assert_array_equal(first.pictures[0].image, image)
    np.testing.assert_array_equal(first.pictures[1].image, SPACE.colorize(truth))
    np.testing.assert_array_equal(first.pictures[2].image, SPACE.colorize(prediction))
    assert np.all(np.array(first.pictures[3].image)[0] == 0)
    assert np.all(np.array(attention.pictures[0].image) == 230)
    assert all(p.alt for strip in (alone, attention) for p in strip.pictures)


def test_without_truth_there_is_no_error(arrays):
    image, _, prediction = arrays
    (strip,) = example("a", image, prediction, SPACE).strips
    assert captions(strip) == ["Input", "Prediction"]


def test_the_text_says_whether_anything_is_wrong(arrays):
    image, truth, prediction = arrays
    (right,) = example("a", image, prediction, SPACE, prediction).strips
    assert "no wrong pixel" in right.pictures[-1].alt
    (wrong,) = example("a", image, prediction, SPACE, truth).strips
    assert "wrong pixels are red" in wrong.pictures[-1].alt
