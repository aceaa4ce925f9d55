import pytest
import torch
from torch import nn

from polyscale.baselines import AveragePooling
from polyscale.multiscale import View, chained_weights, fuse, scaled_size

SIZE = (13, 18)


def random_views(scales, size=SIZE, num_classes=3, constant=None):
    generator = torch.Generator().manual_seed(1)
    views = {}
    for scale in scales:
        shape = scaled_size(size, scale)
        attention = torch.rand(2, 1, *shape, generator=generator, dtype=torch.float64)
        if constant is not None:
            attention = torch.full_like(attention, constant[scale])
        views[scale] = View(torch.randn(2, num_classes, *shape, generator=generator, dtype=torch.float64), attention)
    return views


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0), (1.0, 2.0), (0.5, 1.0, 2.0), (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)])
def test_hierarchical_weights_sum_to_one_at_the_images_size(scales):
    weights = chained_weights(random_views(scales))
    assert list(weights) == sorted(scales, reverse=True)
    assert all(weight.shape == (2, 1, *SIZE) and weight.dtype == torch.float32 for weight in weights.values())
    total = torch.stack(list(weights.values())).sum(0)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-6)
    assert min(float(weight.min()) for weight in weights.values()) >= 0


def test_hierarchical_weights_by_hand():
    constant = {0.25: 0.1, 0.5: 0.2, 1.0: 0.3, 2.0: 0.9}
    weights = chained_weights(random_views(tuple(constant), constant=constant))
    expected = {0.25: 0.1, 0.5: 0.9 * 0.2, 1.0: 0.9 * 0.8 * 0.3, 2.0: 0.9 * 0.8 * 0.7}
    for scale, value in expected.items():
        torch.testing.assert_close(weights[scale], torch.full_like(weights[scale], value), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scales", [(0.5, 1.0), (0.5, 1.0, 2.0)])
def test_the_weights_are_those_of_the_fusion(scales):
    # Logits that are constant over each view show how much of it reaches each pixel: fuse() then gives the weights
    # themselves. For scales below 1 this holds because a constant comes out of the resized product.
    views = random_views(scales, num_classes=len(scales))
    for k, scale in enumerate(scales):
        one_hot = torch.zeros_like(views[scale].logits)
        one_hot[:, k] = 1
        views[scale] = views[scale]._replace(logits=one_hot)
    fused = fuse(views).logits
    weights = chained_weights(views)
    for k, scale in enumerate(scales):
        torch.testing.assert_close(weights[scale].double(), fused[:, k : k + 1], rtol=0, atol=1e-6)


def test_average_and_single_are_uniform():
    average = AveragePooling(nn.Identity())
    weights = average.weights(random_views((0.5, 1.0, 2.0)))
    for weight in weights.values():
        torch.testing.assert_close(weight, torch.full((2, 1, *SIZE), 1 / 3))
    assert torch.equal(average.weights(random_views((1.0,)))[1.0], torch.ones(2, 1, *SIZE))


@pytest.mark.parametrize("softmax", [True, False])
def test_explicit_weights_are_the_networks_own(build, softmax):
    model = build("explicit", softmax=softmax).eval()
    images = torch.rand(1, 3, *SIZE)
    with torch.no_grad():
        fused = model(images)
        weights = model.weights(fused.views)
        size = fused.logits.shape[-2:]
        resized = {
            s: torch.nn.functional.interpolate(v.logits, size=size, mode="bilinear") for s, v in fused.views.items()
        }
        by_hand = sum(weights[scale] * resized[scale] for scale in weights)
    torch.testing.assert_close(by_hand, fused.logits, rtol=1e-5, atol=1e-5)
    total = sum(weights.values())
    assert torch.allclose(total, torch.ones_like(total)) == softmax


def test_what_cannot_be_weighed_is_refused():
    views = random_views((0.5, 1.0))
    without = {scale: View(view.logits) for scale, view in views.items()}
    with pytest.raises(ValueError, match=r"scale 0\.5 has no attention"):
        chained_weights(without)
    with pytest.raises(ValueError, match="must contain 1"):
        chained_weights({0.5: views[0.5]})
