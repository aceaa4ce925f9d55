import numpy as np
import pytest
from scipy import ndimage

from polyscale.data.polygons import area, bridge, fill, simplify, trace

RNG = np.random.default_rng(0)


def blobs(seed, size=(40, 50), sigma=1.5):
    noise = np.random.default_rng(seed).normal(size=size)
    return ndimage.gaussian_filter(noise, sigma) > 0


@pytest.mark.parametrize("mask", [blobs(0), blobs(1, sigma=0.6), RNG.random((30, 31)) > 0.5, np.ones((3, 4), bool)])
def test_what_is_traced_is_filled_to_the_same_pixels(mask):
    regions = trace(mask)
    rings = [ring for region in regions for ring in region]
    np.testing.assert_array_equal(fill(rings, *mask.shape), mask)
    numbered, count = ndimage.label(mask)
    assert len(regions) == count
    for region in regions:  # each region is one of the components, its holes left out
        filled = fill(region, *mask.shape)
        (number,) = set(numbered[filled].tolist())
        np.testing.assert_array_equal(filled, numbered == number)
        assert area(region[0]) > 0
        assert all(area(hole) < 0 for hole in region[1:])
        assert sum(area(ring) for ring in region) == filled.sum()


@pytest.mark.parametrize("at_once", [1, 7, 64])
def test_crossings_are_counted_in_parts(monkeypatch, at_once):
    rings = [RNG.uniform(-5, 45, (count, 2)) for count in (3, 60, 300)]
    whole = fill(rings, 30, 40)
    monkeypatch.setattr("polyscale.data.polygons._AT_ONCE", at_once)
    np.testing.assert_array_equal(fill(rings, 30, 40), whole)
    assert not fill([np.zeros((0, 2))], 3, 4).any()


def test_a_ring_holds_its_turning_points_only():
    mask = np.zeros((5, 6), bool)
    mask[1:4, 2:5] = True
    (region,) = trace(mask)
    assert sorted(map(tuple, region[0].tolist())) == [(2, 1), (2, 4), (5, 1), (5, 4)]
    assert trace(np.zeros((2, 2), bool)) == []


def test_pixels_that_touch_at_a_corner_are_two_regions():
    assert len(trace(np.eye(3, dtype=bool))) == 3
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    (region,) = trace(ring)
    assert len(region) == 2


@pytest.mark.parametrize("seed", range(4))
def test_a_bridge_keeps_every_pixel_of_regions_with_holes(seed):
    mask = blobs(seed, sigma=1.0) | blobs(seed + 10, sigma=1.0)
    with_holes = 0
    for region in trace(mask):
        with_holes += len(region) > 1
        np.testing.assert_array_equal(fill([bridge(region)], *mask.shape), fill(region, *mask.shape))
    assert with_holes


def test_a_pixel_counts_by_its_centre_and_rings_may_leave_the_image():
    assert fill([[(0.6, 0), (3, 0), (3, 2), (0.6, 2)]], 2, 3).tolist() == [[False, True, True]] * 2
    assert fill([[(-5, -5), (50, -5), (50, 50), (-5, 50)]], 2, 3).all()
    assert not fill([[(0, 0), (5, 5)]], 4, 4).any()
    assert not fill([], 4, 4).any()


def test_simplifying_stays_within_the_tolerance():
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    mask = fill([np.stack([30 + 25 * np.cos(angles), 30 + 20 * np.sin(angles)], axis=1)], 60, 60)
    (region,) = trace(mask)
    simple = simplify(region[0], 1.0)
    assert len(simple) < len(region[0]) / 4
    different = fill([simple], 60, 60) != mask
    near = ndimage.binary_dilation(mask, iterations=2) & ~ndimage.binary_erosion(mask, iterations=2)
    assert not (different & ~near).any()
    assert simplify(region[0], 0) is region[0]
    square = np.array([(0, 0), (4, 0), (4, 4), (0, 4)], float)
    assert len(simplify(square, 1)) == 4
