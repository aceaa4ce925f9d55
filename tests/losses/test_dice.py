import numpy as np
import pytest
import torch
from torchmetrics.functional.segmentation import dice_score

from polyscale.losses import dice


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 11, 13, generator=generator, dtype=torch.float64) * 2
    labels = torch.randint(0, 4, (3, 11, 13), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    return logits, labels


def test_by_hand(batch):
    logits, labels = batch
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    y = labels.numpy()
    scores = []
    for c in range(4):  # class 4 is absent and takes no part
        mine = p[:, c][y != 255]
        true = (y == c)[y != 255]
        scores.append(2 * mine[true].sum() / (mine.sum() + true.sum()))
    assert dice(logits, labels).item() == pytest.approx(1 - np.mean(scores), rel=1e-12)


def test_of_certain_predictions_equals_torchmetrics():
    generator = torch.Generator().manual_seed(3)
    # One image: torchmetrics takes the ratio for each image, this loss for the batch.
    predicted, true = (torch.randint(0, 3, (1, 16, 16), generator=generator) for _ in range(2))
    logits = torch.nn.functional.one_hot(predicted, 3).movedim(-1, 1) * 1e4
    expected = dice_score(predicted, true, 3, average="macro", input_format="index")
    assert dice(logits.float(), true).item() == pytest.approx(1 - expected.item(), rel=1e-6)


def test_right_and_wrong_are_the_ends():
    labels = torch.tensor([[[0, 1], [1, 255]]])
    logits = torch.tensor([[[[50.0, -50.0], [-50.0, 0.0]], [[-50.0, 50.0], [50.0, 0.0]]]])
    assert dice(logits, labels).item() == pytest.approx(0, abs=1e-6)
    assert dice(-logits, labels).item() == pytest.approx(1, abs=1e-6)


def test_gradient_by_finite_differences(batch):
    logits, labels = batch
    torch.autograd.gradcheck(lambda z: dice(z, labels[:2, :4, :3]), logits[:2, :, :4, :3].clone().requires_grad_())


def test_wholly_ignored_is_zero():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    value = dice(logits, torch.full((1, 4, 4), 255))
    value.backward()
    assert value.item() == 0
    assert not logits.grad.any()
