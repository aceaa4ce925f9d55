import pytest
import torch

from polyscale.video.matte import blurred, compose, foreground, guided


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
