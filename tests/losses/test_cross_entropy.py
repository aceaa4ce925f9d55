import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from polyscale.errors import UserError
from polyscale.losses import cross_entropy, inverse_log_weights


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 11, 13, generator=generator, dtype=torch.float64) * 2
    labels = torch.randint(0, 5, (3, 11, 13), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    return logits.requires_grad_(), labels


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 0.0, 2.0, 7.0]], ids=["plain", "weighted"])
def test_equals_torch(batch, smoothing, weights):
    logits, labels = batch
    weights = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    expected = functional.cross_entropy(logits, labels, weights, ignore_index=255, label_smoothing=smoothing)
    value = cross_entropy(logits, labels, class_weights=weights, label_smoothing=smoothing)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    (gradient,), (wanted,) = (torch.autograd.grad(x, logits) for x in (value, expected))
    torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=1e-16)


def kept_by_hand(logits, labels, threshold, fraction):
    """Sorted by hardness in numpy: all below the threshold, and at least so many."""
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    valid = labels != 255
    of_true = np.take_along_axis(probabilities, np.where(valid, labels, 0)[:, None], 1)[:, 0]
    hardest_first = np.sort(of_true[valid])
    least = math.ceil(fraction * valid.sum())
    bound = hardest_first[least - 1] if least else -1.0
    return valid & ((of_true < threshold) | (of_true <= bound))


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.7, 1.0])
@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_hard_examples_by_hand(batch, threshold, fraction, weighted):
    logits, labels = batch
    kept = kept_by_hand(logits.detach().numpy(), labels.numpy(), threshold, fraction)
    weights = torch.linspace(0.5, 3, 5, dtype=torch.float64) if weighted else None
    options = {"class_weights": weights, "label_smoothing": 0.1 if weighted else 0.0}
    value = cross_entropy(logits, labels, ohem_threshold=threshold, ohem_fraction=fraction, **options)
    if not kept.any():
        assert value.item() == 0
        return
    hard_only = torch.where(torch.from_numpy(kept), labels, 255)
    torch.testing.assert_close(value, cross_entropy(logits, hard_only, **options), rtol=1e-12, atol=0)
    assert (kept.sum() < (labels != 255).sum().item()) == (threshold < 1 and fraction < 1)


def test_nothing_to_learn_from_is_zero():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    labels = torch.full((1, 4, 4), 255)
    weightless = torch.tensor([0.0, 1.0, 1.0])
    for value in (
        cross_entropy(logits, labels),
        cross_entropy(logits, labels, ohem_threshold=0.7),
        cross_entropy(logits, torch.zeros_like(labels), class_weights=weightless),
    ):
        (gradient,) = torch.autograd.grad(value, logits)
        assert value.item() == 0
        assert not gradient.any()


def test_number_of_weights_is_checked():
    with pytest.raises(UserError, match="2 class weights for 3 classes"):
        cross_entropy(torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long), class_weights=torch.ones(2))


def test_inverse_log_weights_by_hand():
    weights = inverse_log_weights(torch.tensor([900, 100, 0]))
    assert weights.tolist() == pytest.approx([1 / math.log(2.0), 1 / math.log(1.2), 1 / math.log(1.1)], rel=1e-6)
    assert inverse_log_weights(torch.zeros(2, dtype=torch.long)).isfinite().all()
