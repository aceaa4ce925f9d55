import pytest
import torch

from polyscale.video.matte import blurred, compose, foreground, guided, without_islands


def disc(height=61, width=83):
    """A bright disc on a dark ground: the image, and its true matte."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    inside = ((y - height // 2) ** 2 + (x - width // 2) ** 2 < (height / 3) ** 2).float()[None, None]
    return 0.2 + 0.6 * inside.expand(1, 3, -1, -1), inside


def test_a_coarse_matte_is_drawn_to_the_edges_of_the_image():
    image, truth = disc()
    coarse = torch.nn.functional.avg_pool2d(truth, 7, 1, 3, count_include_pad=False)
    refined = guided(coarse, image)
    assert (refined - truth).abs().mean() < 0.5 * (coarse - truth).abs().mean()
    assert refined.min() >= 0
    assert refined.max() <= 1


def test_where_the_image_is_flat_the_matte_stays_smooth():
    values = torch.rand(1, 1, 33, 47, generator=torch.Generator().manual_seed(0))
    flat = guided(values, torch.full((1, 3, 33, 47), 0.5))
    assert flat.std() < values.std()
    torch.testing.assert_close(flat.mean(), values.mean(), atol=0.02, rtol=0)


def test_the_blur_leaves_no_halo_of_what_is_kept():
    image, alpha = disc(121, 163)
    behind = blurred(image, alpha)[:, :1]
    assert (behind[alpha == 0] - 0.2).abs().max() < 0.01
    assert blurred(image, torch.zeros_like(alpha))[0, 0, 60, 48] > 0.25


def test_the_foreground_is_freed_from_the_old_background():
    _, sharp = disc()
    alpha = torch.nn.functional.avg_pool2d(sharp, 5, 1, 2, count_include_pad=False)
    red, green = torch.tensor([0.9, 0.1, 0.1]).reshape(1, 3, 1, 1), torch.tensor([0.1, 0.8, 0.1]).reshape(1, 3, 1, 1)
    image = compose(red, alpha, green)
    mixed = ((alpha > 0.3) & (alpha < 0.9)).expand_as(image)
    expected = red.expand_as(image)
    freed = foreground(image, alpha)
    assert (freed - expected)[mixed].abs().mean() < 0.5 * (image - expected)[mixed].abs().mean()


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 2), (17, 400)])
def test_any_size(size):
    image, alpha = torch.rand(1, 3, *size), torch.rand(1, 1, *size)
    for result in (guided(alpha, image), blurred(image, alpha), foreground(image, alpha)):
        assert result.shape[-2:] == size
        assert result.isfinite().all()


def test_islands_are_left_out_and_large_regions_stay():
    values = torch.zeros(1, 1, 160, 240)
    values[..., 40:140, 60:140] = 1  # 130 cells
    values[..., 8:24, 200:216] = 0.9  # 4 cells
    values[..., 60:120, 180:220] = 1  # 35 cells: another person
    values[..., 40:56, 148:156] = 0.8  # beside the large region: a hand, say
    result = without_islands(values)
    assert result[..., 8:24, 200:216].max() < 0.1
    for rows, columns in ((slice(40, 140), slice(60, 140)), (slice(60, 120), slice(180, 220))):
        torch.testing.assert_close(result[..., rows, columns], values[..., rows, columns])


@pytest.mark.parametrize("values", [torch.zeros(1, 1, 5, 7), torch.ones(1, 1, 1, 1), torch.full((1, 1, 3, 200), 0.6)])
def test_islands_of_odd_pictures(values):
    result = without_islands(values)
    assert result.shape == values.shape
    assert result.isfinite().all()


def test_a_region_winds_through_the_picture():
    """Numbers travel along it: it is one region, not many islands."""
    values = torch.zeros(1, 1, 88, 88)
    for row in range(0, 88, 16):
        values[..., row : row + 8, :] = 1
        side = slice(80, 88) if row % 32 == 0 else slice(0, 8)
        values[..., row + 8 : row + 16, side] = 1
    torch.testing.assert_close(without_islands(values), values)
