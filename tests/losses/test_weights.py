"""Weights of pixels and images: one of weight w counts like w of it, in every loss that takes weights."""

import pytest
import torch

from polyscale.errors import UserError
from polyscale.losses import LossConfig, Objective, bce, cross_entropy, dice, focal, lovasz_softmax, rmi_loss
from polyscale.multiscale import Fused, View

CLASS_WEIGHTS = torch.tensor([0.5, 1.0, 4.0])
LOSSES = {
    "cross_entropy": lambda z, y, w=None: cross_entropy(z, y, weights=w),
    "class weights, smoothing": lambda z, y, w=None: cross_entropy(
        z, y, weights=w, class_weights=CLASS_WEIGHTS, label_smoothing=0.1
    ),
    "hard examples": lambda z, y, w=None: cross_entropy(z, y, weights=w, ohem_threshold=0.4, ohem_fraction=0.0),
    "bce": lambda z, y, w=None: bce(z, y, weights=w),
    "dice": lambda z, y, w=None: dice(z, y, weights=w),
    "focal": lambda z, y, w=None: focal(z, y, weights=w),
    "focal, class weights": lambda z, y, w=None: focal(z, y, weights=w, gamma=1, class_weights=CLASS_WEIGHTS),
    "lovasz": lambda z, y, w=None: lovasz_softmax(z, y, weights=w),
    "rmi": lambda z, y, w=None: rmi_loss(z, y, weights=w),
}


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(3, 3, 18, 20, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (3, 18, 20), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.3] = 255
    return logits, labels


def value_and_gradient(loss, logits, *others):
    leaf = logits.clone().requires_grad_()
    value = loss(leaf, *others)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient


@pytest.mark.parametrize("name", LOSSES)
def test_an_image_of_weight_two_counts_like_two_images_and_one_of_weight_zero_like_none(name, batch):
    logits, labels = batch
    value, gradient = value_and_gradient(LOSSES[name], logits, labels, torch.tensor([2, 1, 0]))
    copies = [0, 0, 1]
    expected, repeated = value_and_gradient(LOSSES[name], logits[copies], labels[copies])
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient[0], repeated[0] + repeated[1], rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(gradient[1], repeated[2], rtol=1e-9, atol=1e-15)
    assert not gradient[2].any()


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "rmi"])
def test_a_pixel_of_weight_two_counts_like_two_pixels(name, batch):
    logits, labels = (x[:1] for x in batch) if name == "lovasz" else batch  # its IoU is each image's own
    weights = torch.randint(0, 4, labels.shape, generator=torch.Generator().manual_seed(1))
    value, gradient = value_and_gradient(LOSSES[name], logits, labels, weights)
    # Every pixel as often as its weight says, in one long image.
    places = (
        weights.flatten()
        .repeat_interleave(weights.flatten())
        .new_tensor([k for k, w in enumerate(weights.flatten().tolist()) for _ in range(w)])
    )
    flat = logits.movedim(1, -1).reshape(-1, 3)
    expected, repeated = value_and_gradient(
        LOSSES[name], flat[places].T[None, :, None], labels.flatten()[places][None, None]
    )
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    summed = torch.zeros_like(flat).index_add_(0, places, repeated[0, :, 0].T)
    torch.testing.assert_close(gradient.movedim(1, -1).reshape(-1, 3), summed, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("name", LOSSES)
def test_equal_weights_of_one_change_nothing_and_no_weight_at_all_is_no_loss(name, batch):
    logits, labels = batch
    torch.testing.assert_close(LOSSES[name](logits, labels, torch.ones(3)), LOSSES[name](logits, labels))
    value, gradient = value_and_gradient(LOSSES[name], logits, labels, torch.zeros(3))
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("name", LOSSES)
def test_weights_of_another_shape_are_refused(name, batch):
    with pytest.raises(UserError, match="weights"):
        LOSSES[name](*batch, torch.ones(3, 18, 19))


def test_rmi_has_no_weights_of_pixels(batch):
    with pytest.raises(UserError, match="one for each image, or use bce"):
        rmi_loss(*batch, weights=torch.ones(batch[1].shape))


def test_the_objective_weighs_every_part(batch):
    logits, labels = batch
    half = torch.nn.functional.avg_pool2d(logits, 2)
    fused = Fused(logits, 2 * logits, {1.0: View(logits), 0.5: View(half)})
    objective = Objective(LossConfig(main=[{"loss": "rmi"}, {"loss": "dice"}], aux="cross_entropy"))
    weights = torch.tensor([2.0, 1, 0])
    got = objective(fused, labels, weights)
    copies = [0, 0, 1]
    twice = Fused(logits[copies], 2 * logits[copies], {1.0: View(logits[copies]), 0.5: View(half[copies])})
    expected = objective(twice, labels[copies])
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-12, atol=0)
    plain = objective(fused, labels)
    assert all(plain[name] != got[name] for name in got), "some part takes no weights"
