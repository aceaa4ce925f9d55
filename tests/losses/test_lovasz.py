import numpy as np
import pytest
import torch

from polyscale.losses import lovasz_softmax


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 11, 13, generator=generator, dtype=torch.float64) * 2
    labels = torch.randint(0, 4, (3, 11, 13), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    return logits, labels


def extension_by_hand(errors, true, weights):
    """Equation 9 of arXiv:1705.08790: errors from the largest, times how much 1 - IoU of the wrong set grows."""

    def jaccard(wrong):
        union = weights[true | wrong].sum()
        return weights[wrong].sum() / union if union else 0.0

    total, wrong = 0.0, np.zeros(len(errors), bool)
    for place in np.argsort(-errors):
        before = jaccard(wrong)
        wrong[place] = True
        total += errors[place] * (jaccard(wrong) - before)
    return total


@pytest.mark.parametrize("weighted", [False, True])
def test_by_hand(batch, weighted):
    logits, labels = batch
    weights = torch.rand(labels.shape, generator=torch.Generator().manual_seed(1)).double() if weighted else None
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    total = divisor = 0.0
    for n in range(3):
        y = labels[n].numpy()
        valid = y != 255
        w = weights[n].numpy()[valid] if weighted else np.ones(valid.sum())
        losses = []
        for c in range(4):  # class 4 is absent and takes no part
            true = y[valid] == c
            losses.append(extension_by_hand(np.abs(true - p[n, c][valid]), true, w))
        total += np.mean(losses) * w.sum()
        divisor += w.sum()
    assert lovasz_softmax(logits, labels, weights=weights).item() == pytest.approx(total / divisor, rel=1e-10)


def test_of_certain_predictions_is_one_minus_iou():
    generator = torch.Generator().manual_seed(3)
    predicted, true = (torch.randint(0, 3, (1, 16, 16), generator=generator) for _ in range(2))
    logits = torch.nn.functional.one_hot(predicted, 3).movedim(-1, 1) * 1e4
    ious = [((predicted == c) & (true == c)).sum() / ((predicted == c) | (true == c)).sum() for c in range(3)]
    assert lovasz_softmax(logits.float(), true).item() == pytest.approx(1 - np.mean(ious), rel=1e-6)
    right = torch.nn.functional.one_hot(true, 3).movedim(-1, 1) * 1e4
    assert lovasz_softmax(right.float(), true).item() == 0


def test_gradient_by_finite_differences(batch):
    logits, labels = batch
    torch.autograd.gradcheck(
        lambda z: lovasz_softmax(z, labels[:2, :4, :3]), logits[:2, :, :4, :3].clone().requires_grad_()
    )


def test_single_precision_keeps_its_digits_in_large_images():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, 700, 700, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(0, 2, (1, 700, 700), generator=generator)
    (exact,) = torch.autograd.grad(lovasz_softmax(logits, labels), logits)
    (single,) = torch.autograd.grad(lovasz_softmax(logits.float(), labels), logits)
    assert (single - exact).norm() < 1e-4 * exact.norm()


def test_wholly_ignored_is_zero():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    value = lovasz_softmax(logits, torch.full((1, 4, 4), 255))
    value.backward()
    assert value.item() == 0
    assert not logits.grad.any()
