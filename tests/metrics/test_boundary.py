"""Boundary IoU against a direct implementation: each class's mask eroded by scipy."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from polyscale.labels import IGNORE
from polyscale.metrics import boundary_band, boundary_counts, boundary_width


def blobs(size, num_classes, seed, ignored_fraction=0.0):
    """A map with regions of all sizes, (H, W) uint8."""
    rng = np.random.default_rng(seed)
    noise = [ndimage.gaussian_filter(rng.standard_normal(size), sigma=2) for _ in range(num_classes)]
    labels = np.argmax(noise, axis=0).astype(np.uint8)
    void = ndimage.gaussian_filter(rng.standard_normal(size), sigma=2)
    labels[void < np.quantile(void, ignored_fraction)] = IGNORE
    return labels


def band_by_erosion(mask, width):
    """The mask without what is left of it after ``width`` erosions by 3 x 3; outside of the image there is no mask."""
    eroded = ndimage.binary_erosion(np.pad(mask, 1), np.ones((3, 3)), iterations=width)[1:-1, 1:-1]
    return mask & ~eroded


def counts_by_erosion(prediction, labels, num_classes, fraction):
    width = max(1, round(fraction * np.hypot(*labels.shape)))
    valid = labels != IGNORE
    counts = np.zeros((2, num_classes), dtype=np.int64)
    for k in range(num_classes):
        guess, truth = (band_by_erosion((x == k) & valid, width) for x in (prediction, labels))
        counts[:, k] = (guess & truth).sum(), (guess | truth).sum()
    return counts


@pytest.mark.parametrize("size", [(37, 53), (64, 40), (5, 90), (1, 1)])
@pytest.mark.parametrize("fraction", [0.0, 0.02, 0.08])
@pytest.mark.parametrize("ignored_fraction", [0.0, 0.15])
def test_equals_the_erosion_of_each_mask(size, fraction, ignored_fraction):
    labels = blobs(size, 5, seed=1, ignored_fraction=ignored_fraction)
    prediction = np.where(blobs(size, 2, seed=2) == 0, labels, blobs(size, 5, seed=3))
    prediction[prediction == IGNORE] = 4
    ours = boundary_counts(torch.tensor(prediction), torch.tensor(labels), 5, fraction)
    assert ours.tolist() == counts_by_erosion(prediction, labels, 5, fraction).tolist()


def test_width_is_a_fraction_of_the_diagonal_and_at_least_one():
    assert boundary_width((360, 480)) == 12
    assert boundary_width((1024, 2048)) == 46
    assert boundary_width((10, 10)) == 1


def test_band_of_a_straight_edge_and_the_image_border():
    labels = torch.zeros(9, 12, dtype=torch.uint8)
    labels[:, 6:] = 1
    inner = ~boundary_band(labels, 2)
    expected = torch.zeros(9, 12, dtype=torch.bool)
    expected[2:7, 2:4] = expected[2:7, 8:10] = True
    assert torch.equal(inner, expected)


def test_a_perfect_prediction_is_perfect_also_beside_ignored_pixels():
    labels = torch.tensor(blobs((40, 50), 4, seed=5, ignored_fraction=0.3))
    prediction = torch.where(labels == IGNORE, 0, labels)
    both, either = boundary_counts(prediction, labels, 4)
    assert torch.equal(both, either)
    assert (either > 0).all()


def test_a_shift_costs_more_on_the_boundary_than_on_the_mask():
    labels = torch.zeros(100, 100, dtype=torch.uint8)
    labels[20:80, 20:80] = 1
    prediction = labels.roll(2, dims=1)
    both, either = boundary_counts(prediction, labels, 2, fraction=0.02).tolist()
    mask_iou = 58 * 60 / (62 * 60)
    # Frames of three pixels, one moved by two columns. Rows 20..22 and 77..79 share 58 columns each; in the 54 rows
    # between, the upright parts are columns 20..22 and 77..79, and 22..24 and 79..81, which share two.
    assert both[1] == 6 * 58 + 54 * 2
    assert either[1] == 2 * (60 * 60 - 54 * 54) - both[1]
    assert both[1] / either[1] < 0.6 < mask_iou


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"must both be \(H, W\)"):
        boundary_counts(torch.zeros(2, 3, 3, dtype=torch.uint8), torch.zeros(2, 3, 3, dtype=torch.uint8), 2)
