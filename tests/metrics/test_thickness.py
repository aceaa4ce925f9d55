"""Thickness and distance to the border against scipy's morphology and chessboard distance."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from polyscale.labels import IGNORE
from polyscale.metrics import border_bins, thickness_bins


@pytest.fixture
def labels():
    rng = np.random.default_rng(3)
    labels = np.kron(rng.integers(0, 3, (5, 7)), np.ones((17, 13))).astype(np.uint8)
    labels[:, 20:22] = 3
    labels[40:44] = 4
    labels[rng.random(labels.shape) < 0.002] = 5
    labels[60:70, 50:60] = IGNORE
    return labels


def test_bars_of_known_width():
    labels = np.zeros((60, 80), np.uint8)
    for left, width in ((5, 1), (10, 2), (15, 3), (22, 5), (30, 6), (40, 15), (58, 16)):
        labels[:, left : left + width] = 1
    bins = thickness_bins(torch.tensor(labels)).numpy()
    middle = {left: bins[30, left] for left in (5, 10, 15, 22, 30, 40, 58)}
    assert middle == {5: 0, 10: 0, 15: 1, 22: 1, 30: 2, 40: 2, 58: 3}


def test_thickness_is_the_largest_square_of_one_label_that_holds_the_pixel(labels):
    expected = np.zeros(labels.shape, np.uint8)
    for side in (3, 6, 16):
        held = np.zeros(labels.shape, bool)
        for top in range(labels.shape[0] - side + 1):
            for left in range(labels.shape[1] - side + 1):
                square = np.s_[top : top + side, left : left + side]
                if (labels[square] == labels[top, left]).all():
                    held[square] = True
        expected += held
    found = thickness_bins(torch.tensor(labels)).numpy()
    assert len(np.unique(found)) == 4
    np.testing.assert_array_equal(found, expected)


def test_distance_is_that_of_a_chessboard_king(labels):
    distance = np.zeros(labels.shape, int)
    for value in np.unique(labels):
        mask = np.pad(labels == value, 1)
        distance += ndimage.distance_transform_cdt(mask, "chessboard")[1:-1, 1:-1]
    expected = sum((distance > last).astype(int) for last in (1, 2, 4, 8))
    found = border_bins(torch.tensor(labels)).numpy()
    valid = labels != IGNORE
    np.testing.assert_array_equal(found[valid], expected[valid])


def test_an_image_smaller_than_a_square_has_no_thick_pixel():
    assert thickness_bins(torch.zeros(4, 30, dtype=torch.uint8)).max() == 1
