import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from polyscale.losses import cross_entropy, focal


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 11, 13, generator=generator, dtype=torch.float64) * 2
    labels = torch.randint(0, 5, (3, 11, 13), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    return logits.requires_grad_(), labels


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
def test_of_two_classes_equals_torchvisions_sigmoid_form(gamma):
    generator = torch.Generator().manual_seed(1)
    score = (3 * torch.randn(2, 9, 7, generator=generator, dtype=torch.float64)).requires_grad_()
    labels = torch.randint(0, 2, (2, 9, 7), generator=generator)
    value = focal(torch.stack([torch.zeros_like(score), score], 1), labels, gamma=gamma)
    expected = sigmoid_focal_loss(score, labels.double(), alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    (gradient,), (wanted,) = (torch.autograd.grad(x, score) for x in (value, expected))
    torch.testing.assert_close(gradient, wanted, rtol=1e-9, atol=1e-15)


def test_by_hand(batch):
    logits, labels = batch
    class_weights = torch.tensor([0.5, 1.0, 0.0, 2.0, 7.0], dtype=torch.float64)
    probabilities = logits.detach().exp() / logits.detach().exp().sum(1, keepdim=True)
    total, divisor = 0.0, 0.0
    for n, i, j in (labels != 255).nonzero().tolist():
        c = labels[n, i, j]
        p = probabilities[n, c, i, j]
        total -= class_weights[c] * (1 - p) ** 2 * p.log()
        divisor += class_weights[c]
    assert focal(logits, labels, class_weights=class_weights).item() == pytest.approx(
        (total / divisor).item(), rel=1e-12
    )


def test_without_fading_it_is_cross_entropy(batch):
    logits, labels = batch
    value, expected = focal(logits, labels, gamma=0), cross_entropy(logits, labels)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    (gradient,), (wanted,) = (torch.autograd.grad(x, logits) for x in (value, expected))
    torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=1e-16)


def test_gradient_by_finite_differences(batch):
    logits, labels = batch
    torch.autograd.gradcheck(lambda z: focal(z, labels[:1, :4, :3]), logits[:1, :, :4, :3].detach().requires_grad_())


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
def test_certain_pixels_have_finite_gradients(gamma):
    logits = torch.tensor([1e4, -1e4]).reshape(1, 2, 1, 1).requires_grad_()
    for label in (0, 1):
        (gradient,) = torch.autograd.grad(focal(logits, torch.full((1, 1, 1), label), gamma=gamma), logits)
        assert gradient.isfinite().all()
        assert gradient.any() == (label == 1)


def test_wholly_ignored_is_zero():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    value = focal(logits, torch.full((1, 4, 4), 255))
    value.backward()
    assert value.item() == 0
    assert not logits.grad.any()
