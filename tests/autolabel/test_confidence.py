import io

import numpy as np
import pytest
from PIL import Image

from polyscale.autolabel.confidence import level_palette, to_levels
from polyscale.autolabel.rules import Candidates
from polyscale.data.png import encode_index_png
from polyscale.labels import IGNORE

LEVELS = (0.0, 0.5, 0.9, 1.0)


def test_a_level_is_the_largest_bound_below_and_the_last_is_the_coarse_label_s():
    labels = np.zeros((1, 6), np.uint8)
    labels[0, 5] = IGNORE
    certain = np.array([[0, 0, 0, 0, 1, 0]], bool)
    confidence = np.array([[0.49, 0.5, np.float32(0.9), 1.0, 0.2, 1.0]], np.float32)
    assert to_levels(Candidates(labels, certain), confidence, LEVELS, 1).tolist() == [[0, 1, 2, 2, 3, 0]]


def test_a_square_holds_the_lowest_of_its_labelled_pixels():
    labels = np.zeros((3, 4), np.uint8)
    labels[0, 0] = IGNORE
    labels[:, 3] = IGNORE
    confidence = np.array([[0, 0.95, 0.95, 0], [0.6, 0.95, 0.95, 0], [0.6, 0.3, 0.95, 0]], np.float32)
    assert to_levels(Candidates(labels, None), confidence, LEVELS, 2).tolist() == [[1, 2], [0, 2]]


@pytest.mark.parametrize("number", [12, 16, 40])
def test_the_picture_holds_the_levels(number):
    stored = np.random.default_rng(0).integers(0, number, (7, 9), dtype=np.uint8)
    picture = Image.open(io.BytesIO(encode_index_png(stored, level_palette(number))))
    np.testing.assert_array_equal(np.array(picture), stored)
