"""Fusion against an independent float64 implementation: numpy, resizing written out from the definition."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from polyscale.multiscale import HierarchicalMultiScale, View, check_scales, fuse, fuse_on_grid, look, scaled_size


def resize_axis(x: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Linear interpolation between pixel centres, clamped at the border."""
    old = x.shape[axis]
    at = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, None)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, old - 1)
    shape = [1] * x.ndim
    shape[axis] = size
    weight = (at - low).reshape(shape)
    return np.take(x, low, axis) * (1 - weight) + np.take(x, high, axis) * weight


def resize(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return resize_axis(resize_axis(x, size[0], -2), size[1], -1)


def fuse_by_hand(views: dict[float, tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The published recursion, without a shared line with the package."""
    order = sorted(views, reverse=True)
    result = views[order[0]][0]
    for scale in order[1:]:
        logits, attention = views[scale]
        if scale >= 1:
            result = attention * logits + (1 - attention) * resize(result, logits.shape[-2:])
        else:
            size = result.shape[-2:]
            result = resize(attention * logits, size) + (1 - resize(attention, size)) * result
    return result


SCALE_SETS = [
    (0.5, 1.0),
    (1.0,),
    (0.5, 1.0, 2.0),
    (0.25, 0.5, 1.0, 2.0),
    (0.5, 0.75, 1.0, 1.5, 2.0),
    (1.0, 1.25),
    (0.1, 1.0),
]


@pytest.mark.parametrize("scales", SCALE_SETS)
@pytest.mark.parametrize("size", [(16, 24), (33, 47), (5, 3)])
def test_fusion_equals_an_independent_implementation(scales: tuple[float, ...], size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for scale in scales:
        height, width = (max(1, int(Fraction(str(scale)) * side)) for side in size)
        arrays[scale] = (rng.normal(size=(2, 4, height, width)), rng.random((2, 1, height, width)))
    views = {
        scale: View(torch.from_numpy(logits), torch.from_numpy(attention), torch.from_numpy(-2 * logits))
        for scale, (logits, attention) in arrays.items()
    }
    fused = fuse(views)
    expected = fuse_by_hand(arrays)
    assert fused.logits.shape[-2:] == size
    np.testing.assert_allclose(fused.logits.numpy(), expected, rtol=0, atol=1e-12)
    # The auxiliary logits go through the same attention.
    assert fused.aux is not None
    np.testing.assert_allclose(fused.aux.numpy(), -2 * expected, rtol=0, atol=1e-12)
    assert list(fused.views) == sorted(scales, reverse=True)


def test_the_finest_attention_is_never_read() -> None:
    def views(finest: float) -> dict[float, View]:
        return {
            s: View(torch.full((1, 2, 4, 4), s), torch.full((1, 1, 4, 4), finest if s == 2 else 0.3))
            for s in (1.0, 2.0)
        }

    assert torch.equal(fuse(views(0.0)).logits, fuse(views(1.0)).logits)


def test_full_and_no_trust() -> None:
    coarse, fine = torch.full((1, 2, 2, 2), 5.0), torch.full((1, 2, 4, 4), -3.0)
    for trust, expected in ((1.0, 5.0), (0.0, -3.0)):
        fused = fuse({0.5: View(coarse, torch.full((1, 1, 2, 2), trust)), 1.0: View(fine, None)})
        assert torch.equal(fused.logits, torch.full_like(fine, expected))


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        ((100, 10), 0.29, (29, 2)),  # 100 * 0.29 is 28.999999999999996 in floats
        ((480, 360), 0.5, (240, 180)),
        ((33, 47), 0.5, (16, 23)),
        ((3, 1), 0.25, (1, 1)),  # never zero
        ((7, 9), 1.5, (10, 13)),
    ],
)
def test_scaled_size(size: tuple[int, int], scale: float, expected: tuple[int, int]) -> None:
    assert scaled_size(size, scale) == expected


@pytest.mark.parametrize("scales", [(), (0.5, 2.0), (-1.0, 1.0), (0.0, 1.0), (1.0, 1000.0)])
def test_bad_scales_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="scales must"):
        check_scales(scales)


def test_check_scales_orders_and_drops_doubles() -> None:
    assert check_scales([0.5, 2, 1, 1.0]) == (2.0, 1.0, 0.5)


def test_a_view_without_attention_is_refused() -> None:
    view = View(torch.zeros(1, 2, 4, 4))
    with pytest.raises(ValueError, match="scale-attention head"):
        fuse({0.5: view, 1.0: view})


class Grid(nn.Module):
    """A segmenter on a grid of stride 4 whose outputs depend on its input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=4, padding=1)
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> View:
        self.sizes.append(tuple(x.shape[-2:]))
        y = self.conv(x)
        return View(y[:, :3], y[:, 3:].sigmoid(), y[:, :3] * 2, y)


@pytest.mark.parametrize("size", [(32, 48), (33, 47), (1, 1), (2, 3)])
def test_the_module_gives_the_images_size(size: tuple[int, int]) -> None:
    model = HierarchicalMultiScale(Grid())
    fused = model(torch.rand(2, 3, *size), (0.25, 0.5, 1, 2))
    assert fused.logits.shape == (2, 3, *size)
    assert fused.aux is not None
    assert fused.aux.shape == (2, 3, *size)
    for scale, view in fused.views.items():
        assert view.features is None
        assert view.logits.shape[-2:] == scaled_size(size, scale)
        assert view.attention is not None
        assert view.attention.shape == (2, 1, *scaled_size(size, scale))


def test_views_are_taken_coarsest_first() -> None:
    """Batch-norm statistics are updated in the published order: 0.5x, then 1x."""
    grid = Grid()
    HierarchicalMultiScale(grid)(torch.rand(1, 3, 32, 32), (0.5, 1))
    assert grid.sizes == [(16, 16), (32, 32)]


def test_gradients_reach_both_scales() -> None:
    grid = Grid()
    model = HierarchicalMultiScale(grid).double()
    images = torch.rand(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: model(x, (0.5, 1)).logits, (images,))


def test_half_precision_is_fused_in_float32() -> None:
    def half(x: torch.Tensor) -> View:
        return View(torch.ones(1, 2, 4, 4, dtype=torch.bfloat16), torch.ones(1, 1, 4, 4, dtype=torch.bfloat16))

    view = look(half, torch.rand(1, 3, 16, 16), 1.0)
    assert view.logits.dtype == torch.float32
    assert view.attention is not None
    assert view.attention.dtype == torch.float32


class WithHead(Grid):
    """Counts how often its attention head runs."""

    heads = 0

    def forward(self, x: torch.Tensor) -> View:
        self.heads += 1
        return super().forward(x)

    def without_attention(self, x: torch.Tensor) -> View:
        return super().forward(x)._replace(attention=None)


@pytest.mark.parametrize(("skip", "expected"), [(True, 2), (False, 3)])
def test_the_head_does_not_run_at_the_finest_scale(skip: bool, expected: int) -> None:
    torch.manual_seed(0)
    segmenter = WithHead()
    images = torch.rand(1, 3, 24, 20)
    fused = HierarchicalMultiScale(segmenter, skip)(images, (0.5, 1, 2))
    assert segmenter.heads == expected
    assert torch.equal(fused.logits, HierarchicalMultiScale(segmenter, False)(images, (0.5, 1, 2)).logits)


@pytest.mark.parametrize("scales", SCALE_SETS)
def test_fast_fusion_equals_an_independent_implementation(scales: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    grid = {scale: (max(1, int(7 * scale)), max(1, int(9 * scale))) for scale in scales}
    arrays = {s: (rng.normal(size=(2, 4, *grid[s])), rng.random((2, 1, *grid[s]))) for s in scales}
    order = sorted(scales, reverse=True)
    result, finest = arrays[order[0]][0], grid[order[0]]
    for scale in order[1:]:
        logits, attention = arrays[scale]
        result = resize(attention * logits, finest) + (1 - resize(attention, finest)) * result
    views = {s: View(*(torch.from_numpy(x) for x in pair)) for s, pair in arrays.items()}
    fused = fuse_on_grid(views, (27, 35))
    np.testing.assert_allclose(fused.logits.numpy(), resize(result, (27, 35)), rtol=0, atol=1e-12)
    assert all(fused.views[s] is views[s] for s in scales)


def test_fast_and_exact_are_one_where_the_grid_is_the_pixels() -> None:
    """Then only the order of resizing at scales above 1 is left to differ."""
    segmenter = nn.Conv2d(3, 5, 3, padding=1).double()

    def pixels(x: torch.Tensor) -> View:
        y = segmenter(x)
        return View(y[:, :4], y[:, 4:].sigmoid())

    images = torch.rand(1, 3, 33, 47, dtype=torch.float64)
    views = {scale: look(pixels, images, scale) for scale in (0.25, 0.5, 1.0)}
    torch.testing.assert_close(fuse_on_grid(views, (33, 47)).logits, fuse(views).logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(32, 48), (33, 47), (1, 1)])
def test_the_fast_module_leaves_views_on_the_grid(size: tuple[int, int]) -> None:
    fused = HierarchicalMultiScale(Grid(), fast=True)(torch.rand(2, 3, *size), (0.25, 0.5, 1, 2))
    assert fused.aux is not None
    assert fused.logits.shape == fused.aux.shape == (2, 3, *size)
    for scale, view in fused.views.items():
        assert view.logits.shape[-2:] == tuple((side + 3) // 4 for side in scaled_size(size, scale))
