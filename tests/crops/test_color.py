import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torchvision.transforms.v2 import functional as reference

from polyscale.crops.color import PHOTOMETRIC, apply_color, color_matrix, gaussian_blur, to_tensor


def mild_image(height=70, width=45):
    """Colours far from black and white: nothing is clipped between torchvision's steps, whatever their order."""
    return np.random.default_rng(0).integers(90, 160, (height, width, 3), dtype=np.uint8)


def jitter(image, **factors):
    return apply_color(image, *color_matrix(image.mean((0, 1)) / 255, **factors))


def test_to_tensor_is_planes_divided_by_255():
    image = np.random.default_rng(1).integers(0, 256, (33, 5, 3), dtype=np.uint8)
    tensor = to_tensor(image)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    assert torch.equal(tensor, torch.from_numpy(image).permute(2, 0, 1) / 255)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("brightness", reference.adjust_brightness),
        ("contrast", reference.adjust_contrast),
        ("saturation", reference.adjust_saturation),
    ],
)
@pytest.mark.parametrize("factor", [0.6, 1.3])
def test_each_factor_means_what_torchvision_means(name, step, factor):
    image = mild_image()
    torch.testing.assert_close(jitter(image, **{name: factor}), step(to_tensor(image), factor), atol=2e-4, rtol=0)


def test_all_factors_in_one_pass_equal_one_after_the_other_in_any_order():
    image = mild_image()
    once = jitter(image, brightness=1.2, contrast=0.8, saturation=1.25)
    steps = reference.adjust_saturation(
        reference.adjust_brightness(reference.adjust_contrast(to_tensor(image), 0.8), 1.2), 1.25
    )
    torch.testing.assert_close(once, steps, atol=3e-4, rtol=0)


def test_the_result_is_clipped_once_to_0_1():
    image = np.array([[[250, 10, 128]]], np.uint8)
    tensor = jitter(image, brightness=1.25, saturation=1.25)
    assert tensor.min() == 0.0
    assert tensor.max() == 1.0


def test_hue_keeps_grey_and_luma_and_a_whole_turn_is_none():
    image = mild_image()
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    luma = torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)
    torch.testing.assert_close(jitter(grey, hue=0.2), to_tensor(grey), atol=1e-6, rtol=0)
    turned = jitter(image, hue=0.2)
    assert (turned - to_tensor(image)).abs().max() > 0.05
    torch.testing.assert_close((turned * luma).sum(0), (to_tensor(image) * luma).sum(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(jitter(image, hue=1.0), to_tensor(image), atol=1e-6, rtol=0)


@pytest.mark.parametrize("hue", [-0.05, 0.05])
def test_hue_turns_the_way_torchvision_does(hue):
    image = np.array([[[160, 100, 100], [100, 160, 100], [100, 100, 160], [150, 140, 90]]], np.uint8)
    ours = jitter(image, hue=hue) - to_tensor(image)
    theirs = reference.adjust_hue(to_tensor(image), hue) - to_tensor(image)
    cosine = torch.nn.functional.cosine_similarity(ours, theirs, dim=0)
    # HSV keeps the largest channel and YIQ the luma, so the paths differ; the direction must not.
    assert cosine.min() > 0.15, cosine
    assert cosine.mean() > 0.45, cosine


def test_apply_color_takes_mirrored_views_and_sizes_that_no_strip_divides():
    image = mild_image(65, 7)
    matrix, offset = color_matrix(np.full(3, 0.5), 1.1, 0.9, 1.1, 0.02)
    mirrored = apply_color(image[:, ::-1], matrix, offset)
    assert torch.equal(mirrored, apply_color(image, matrix, offset).flip(-1))
    by_hand = np.einsum("ij,hwj->ihw", matrix, image / 255.0) + offset[:, None, None]
    np.testing.assert_allclose(mirrored.flip(-1).numpy(), by_hand, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.8, 2.0])
def test_blur_is_nearly_gaussian(sigma):
    image = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    ours = np.asarray(gaussian_blur(Image.fromarray(image), sigma)).astype(float)
    exact = gaussian_filter(image.astype(float), (sigma, sigma, 0), mode="nearest")
    assert np.abs(ours - exact)[8:-8, 8:-8].mean() < 0.12 * np.abs(image - exact).mean()


@pytest.mark.parametrize("name", sorted(PHOTOMETRIC))
def test_photometric_operations(name):
    image = Image.fromarray(np.random.default_rng(2).integers(30, 220, (24, 31, 3), dtype=np.uint8))
    before = np.asarray(image).copy()
    assert np.array_equal(np.asarray(PHOTOMETRIC[name](image, 0.0)), before), "strength 0 changes nothing"
    for strength in (-1.0, 1.0):
        after = PHOTOMETRIC[name](image, strength)
        assert after.size == image.size
        assert after.mode == "RGB"
        assert not np.array_equal(np.asarray(after), before)
    assert np.array_equal(np.asarray(image), before), "the picture given is left as it was"
