import numpy as np
import pytest

from polyscale.autolabel.regions import small_regions
from polyscale.labels import IGNORE


def reference(labels, smallest):
    """The same by scipy, class for class."""
    ndimage = pytest.importorskip("scipy.ndimage")
    small = np.zeros(labels.shape, bool)
    for label in set(np.unique(labels).tolist()) - {IGNORE}:
        regions, _ = ndimage.label(labels == label)
        sizes = np.bincount(regions.ravel())
        small |= (regions > 0) & (sizes[regions] < smallest)
    return small


@pytest.mark.parametrize("seed", range(12))
def test_equal_to_scipy(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 40, 2)
    labels = rng.choice([0, 1, 2, IGNORE], (height, width), p=[0.55, 0.25, 0.1, 0.1]).astype(np.uint8)
    for smallest in (2, 5, 30):
        np.testing.assert_array_equal(small_regions(labels, smallest), reference(labels, smallest))


def test_a_snake_is_one_region():
    labels = np.zeros((41, 31), np.uint8)
    labels[1::4, :-1] = labels[3::4, 1:] = 1
    np.testing.assert_array_equal(small_regions(labels, 31), reference(labels, 31))


def test_a_region_with_a_spared_pixel_stays():
    labels = np.array([[1, 1, 2, 1]], np.uint8)
    spared = np.array([[False, True, False, False]])
    np.testing.assert_array_equal(small_regions(labels, 3, spared), [[False, False, True, True]])
