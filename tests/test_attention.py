"""Attention over views."""

import math

import pytest
import torch
from torch import nn

from polyscale.attention import AttentionOverViews, ViewAttention, disagreement, statistics, surroundings
from polyscale.baselines import average_logits
from polyscale.multiscale import View
from polyscale.views import at_input_sizes, resize


class Stride4(nn.Module):
    """Logits from random convolutions on a grid of stride 4."""

    def __init__(self, num_classes: int = 5) -> None:
        super().__init__()
        self.net = nn.Conv2d(3, num_classes, 5, stride=4, padding=2)

    def forward(self, images: torch.Tensor) -> View:
        logits = 3 * self.net(images)
        return View(logits, features=logits.tanh())


def network(maps: int = 5, features: bool = False, start: bool = True) -> AttentionOverViews:
    torch.manual_seed(0)
    head = ViewAttention(5, 8, maps, 5 if features else 0)
    if not start:
        nn.init.normal_(head.layers[-1].weight)
    return AttentionOverViews(Stride4(), head, features).eval()


def test_statistics_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]).T.reshape(1, 3, 1, 2)
    found = statistics(logits)[0, :, 0]
    top = math.e**2 / (math.e**2 + 2)
    rest = (1 - top) / 2
    entropy = -(top * math.log(top) + 2 * rest * math.log(rest)) / math.log(3)
    height, spread = math.log(math.e**2 + 2) / 5, math.sqrt(8 / 9) / 5
    expected = [top, rest, rest, entropy, top - rest, height, 4 / 3 / 5, spread]
    torch.testing.assert_close(found[:, 0], torch.tensor(expected))
    torch.testing.assert_close(found[:, 1], torch.tensor([1 / 3, 1 / 3, 1 / 3, 1.0, 0.0, math.log(3) / 5, 0.0, 0.0]))


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (20, 31)])
def test_surroundings_are_means_of_what_lies_inside(size: tuple[int, int]) -> None:
    x = torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(0))
    found = surroundings(x)
    assert found.shape == (1, 6, *size)
    for number, side in enumerate((3, 13), start=1):
        for row, column in {(0, 0), (size[0] - 1, size[1] // 2)}:
            half = side // 2
            window = x[..., max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1]
            mean = found[0, 2 * number : 2 * number + 2, row, column]
            torch.testing.assert_close(mean, window.mean((2, 3))[0])


def test_disagreement_by_hand() -> None:
    p, q = torch.tensor([0.5, 0.5]).reshape(1, 2, 1, 1), torch.tensor([0.9, 0.1]).reshape(1, 2, 1, 1)
    there = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    back = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    torch.testing.assert_close(disagreement(p, q).flatten(), torch.tensor([there, back, 0.5, 0.8]))
    torch.testing.assert_close(disagreement(p, p).flatten(), torch.tensor([0.0, 0.0, 0.5, 0.0]))


@pytest.mark.parametrize("maps", [1, 5])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0), (1.0, 2.0), (0.5, 1.0, 2.0), (0.25, 0.5, 1.0, 1.5, 2.0)])
def test_it_starts_as_the_average_of_logits(scales: tuple[float, ...], maps: int) -> None:
    """Each of k scales counts 1 / k; all views lie on one grid here, so that resizing plays no part."""
    model = network(maps)
    generator = torch.Generator().manual_seed(1)
    views = {scale: View(torch.randn(2, 5, 6, 8, generator=generator)) for scale in scales}
    with torch.no_grad():
        fused = model.chain(views, model.known(views, (6, 8)))
    torch.testing.assert_close(fused.logits, average_logits(views), rtol=1e-5, atol=1e-5)
    for weight in model.weights(fused.views).values() if len(scales) > 1 else ():
        torch.testing.assert_close(weight, torch.full_like(weight, 1 / len(scales)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(33, 47), (16, 16), (1, 1), (40, 9)])
@pytest.mark.parametrize("features", [False, True])
def test_any_size_and_weights_that_sum_to_one(size: tuple[int, int], features: bool) -> None:
    model = network(features=features, start=False)
    with torch.no_grad():
        fused = model(torch.rand(2, 3, *size), (0.5, 1, 2))
        weights = model.weights(at_input_sizes(fused.views, size))
    assert fused.logits.shape == (2, 5, *size)
    assert list(weights) == [2.0, 1.0, 0.5]
    total = sum(weights.values())
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-5)


def test_the_head_cannot_bend_the_views() -> None:
    """What the head reads gives the segmenter no gradient: with all trust in one view, the others get none."""
    model = network(start=False)
    views = {s: View(torch.randn(1, 5, 4, 4, requires_grad=True)) for s in (0.5, 1.0)}
    with torch.no_grad():
        model.head.layers[-1].weight.zero_()
        model.head.layers[-1].bias.fill_(60.0)
    model.chain(views, model.known(views, (4, 4))).logits.sum().backward()
    assert float(views[1.0].logits.grad.abs().max()) == 0
    assert float(views[0.5].logits.grad.min()) == 1


def test_its_parts_have_names() -> None:
    model = network()
    assert set(model.parts()) == {"attention"}
    assert {part for name, part in model.part_of().items() if name.startswith("head.")} == {"attention"}


@pytest.mark.parametrize("maps", [1, 5])
def test_the_views_hold_what_was_fused(maps: int) -> None:
    """Blended once more, attention and logits enlarged each by itself, they give the result."""
    images = torch.rand(1, 3, 37, 50, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model = network(maps, start=False)
        fused = model.combine(images, (2.0, 1.0, 0.5))
    (_, finest), *coarser = fused.views.items()
    result = finest.logits
    for _, view in coarser:
        assert view.attention is not None
        attention = resize(view.attention, result.shape[-2:])
        result = attention * resize(view.logits, result.shape[-2:]) + (1 - attention) * result
    torch.testing.assert_close(resize(result, images.shape[-2:]), fused.logits)
