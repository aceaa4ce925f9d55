import numpy as np
import pytest

from polyscale.windows import Window, cover


def test_all_that_is_wanted_is_covered_once():
    wanted = np.random.default_rng(0).random((23, 30)) < 0.03
    covered = np.zeros(wanted.shape, dtype=int)
    for window in cover(wanted, 1):
        covered[window.rows, window.columns] += 1
    assert covered.max() == 1
    assert covered[wanted].all()


def test_far_spots_get_windows_of_their_own_and_near_ones_share():
    wanted = np.zeros((20, 30), dtype=bool)
    wanted[2, 3] = wanted[2, 4] = wanted[17, 28] = True
    assert sorted(cover(wanted, 1)) == [Window(2, 3, 3, 5), Window(17, 28, 18, 29)]
    assert cover(wanted, 50) == [Window(2, 3, 18, 29)]


def test_nothing_wanted():
    assert cover(np.zeros((4, 5), dtype=bool), 1) == []


@pytest.mark.parametrize(("size", "shape"), [((64, 96), (1, 5, 16, 24)), ((61, 33), (1, 5, 30, 16))])
def test_a_place_on_a_coarser_map_has_at_least_one_pixel_inside_it(size, shape):
    for top in range(0, size[0], 7):
        found = Window(top, 0, min(top + 1, size[0]), size[1]).on(shape, size)
        assert 0 <= found.top < found.bottom <= shape[-2]
        assert (found.left, found.right) == (0, shape[-1])
