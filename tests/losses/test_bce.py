import pytest
import torch
from torch.nn import functional

from polyscale.losses import bce


def case(dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 5, 11, 13, generator=generator, dtype=dtype) * 3
    labels = torch.randint(0, 5, (3, 11, 13), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    return logits.requires_grad_(), labels


def test_equals_torch():
    logits, labels = case()
    valid = labels != 255
    one_hot = functional.one_hot(torch.where(valid, labels, 0), 5).movedim(-1, 1).double()
    summed = functional.binary_cross_entropy_with_logits(
        logits, one_hot, weight=valid[:, None].double().expand_as(logits), reduction="sum"
    )
    expected = summed / (valid.sum() + 1)
    value = bce(logits, labels)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    (gradient,), (wanted,) = (torch.autograd.grad(x * 1.7, logits) for x in (value, expected))
    torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=1e-16)


def test_gradient_by_finite_differences():
    logits, labels = case()
    torch.autograd.gradcheck(lambda z: bce(z, labels[:1, :4, :3]), logits[:1, :, :4, :3].detach().requires_grad_())


@pytest.mark.parametrize("logit", [-1e4, -50.0, 50.0, 1e4])
def test_saturated_logits_by_hand(logit):
    logits = torch.full((1, 2, 1, 1), logit)
    # One class is asked for and one is not: whichever the sign, exactly one of the two answers is wrong, by |logit|.
    assert bce(logits, torch.zeros(1, 1, 1, dtype=torch.long)).item() == pytest.approx(abs(logit) / 2, rel=1e-6)


def test_backward_twice_accumulates():
    logits, labels = case()
    value = bce(logits, labels)
    value.backward(retain_graph=True)
    once = logits.grad.clone()
    value.backward()
    torch.testing.assert_close(logits.grad, 2 * once)
