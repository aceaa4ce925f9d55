import pytest
import torch
from torch import nn

from polyscale.adaptive import MARGIN, TILE, AdaptiveMultiScale
from polyscale.attention import AttentionOverViews, ViewAttention
from polyscale.backbones import BackboneConfig
from polyscale.baselines import AveragePooling
from polyscale.decoders import DecoderConfig
from polyscale.errors import UserError
from polyscale.looker import Looker
from polyscale.models import AttentionConfig, ModelConfig, MultiScaleConfig, build_model
from polyscale.multiscale import HierarchicalMultiScale
from polyscale.views import View

SCALES = (2.0, 1.0, 0.5)


class Local(nn.Module):
    """A segmenter that sees no further than a pixel, on a grid of stride 1: sure of class 0 left, unsure right."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor([4.0, -4.0, 1.0])[:, None, None])

    def forward(self, images):
        return View(self.factor * images[:, :1], (images[:, 1:2] + 1) / 3)


@pytest.fixture
def images():
    """Sure in the left half. Stripes that only the finest scale tells apart lie in the right half."""
    image = torch.ones(2, 3, 96, 160)
    noise = torch.rand(2, 3, 96, 48, generator=torch.Generator().manual_seed(0))
    image[..., 112:] = 0.4 * noise
    return image


def over_views():
    """With one map for each class, as the network for streets that ships has."""
    torch.manual_seed(0)
    model = AttentionOverViews(Local(), ViewAttention(3, 8, maps=3))
    nn.init.normal_(model.head.layers[-1].weight, std=0.3)
    return model.eval()


LOCAL = {
    "exact": lambda: HierarchicalMultiScale(Local()),
    "fast": lambda: HierarchicalMultiScale(Local(), fast=True),
    "average": lambda: AveragePooling(Local()),
}


@pytest.mark.parametrize("kind", LOCAL)
@torch.inference_mode()
def test_windows_have_the_full_result_and_the_rest_that_of_the_coarser_scales(images, kind):
    model = LOCAL[kind]()
    adaptive = AdaptiveMultiScale(model, 0.9)
    fused = adaptive(images, SCALES)
    shown = torch.nn.functional.interpolate(fused.views[2.0].attention, images.shape[-2:]).bool()
    assert not shown[..., :96].any()
    assert shown[..., 112:].all()
    full, coarse = (model(images, scales).logits.softmax(1) for scales in (SCALES, SCALES[1:]))
    expected = torch.where(shown, full, coarse)
    inside = torch.ones_like(shown)
    inside[..., 108:116] = False  # where the two meet, enlarging mixes them
    inside[..., 92:100] = False
    inside = inside.expand_as(full)
    near = 0.1 if kind == "average" else 1e-4  # an average is taken on the finest grid
    torch.testing.assert_close(fused.logits.softmax(1)[inside], expected[inside], atol=near, rtol=0)
    assert kind == "average" or float((full - coarse)[inside].abs().amax()) > near


@pytest.mark.parametrize("kind", [*LOCAL, "over views"])
@torch.inference_mode()
def test_unsure_everywhere_is_the_network_itself(images, kind):
    model = over_views() if kind == "over views" else LOCAL[kind]()
    own, adaptive = Looker(model, prepare=False), Looker(model, prepare=False, adaptive=1.0)
    expected, found = own.classify(images / 4), adaptive.classify(images / 4)
    torch.testing.assert_close(found.confidence, expected.confidence, atol=0.05 if kind == "average" else 1e-5, rtol=0)
    assert list(found.weights) == list(expected.weights)
    for scale, weight in expected.weights.items():
        torch.testing.assert_close(found.weights[scale], weight, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [*LOCAL, "over views"])
@torch.inference_mode()
def test_sure_everywhere_leaves_the_finest_scale_out(images, kind):
    model = over_views() if kind == "over views" else LOCAL[kind]()
    found = Looker(model, prepare=False, adaptive=1e-6).classify(images)
    expected = Looker(model, prepare=False).classify(images, SCALES[1:])
    torch.testing.assert_close(found.confidence, expected.confidence, atol=0.05 if kind == "average" else 1e-5, rtol=0)
    assert float(found.weights[2.0].abs().max()) == 0
    for scale, weight in expected.weights.items():
        torch.testing.assert_close(found.weights[scale], weight, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(64, 96), (61, 83), (20, 150), (9, 7)])
@torch.inference_mode()
def test_real_networks_at_any_size(size):
    torch.manual_seed(0)
    config = ModelConfig(
        backbone=BackboneConfig(name="tiny", pretrained=False),
        decoder=DecoderConfig(kind="light", light_channels=16),
        multiscale=MultiScaleConfig(method="hierarchical", fusion="fast", attention=AttentionConfig(channels=8)),
    )
    model = build_model(config, 5)
    nn.init.normal_(model.segmenter.decoder.classifier.weight, std=2.0)
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    plain = Looker(model).classify(images)
    middle = float(plain.confidence.median())
    found = Looker(model, adaptive=middle).classify(images)
    assert found.labels.shape == (2, *size)
    torch.testing.assert_close(sum(found.weights.values()), torch.ones(2, *size))
    if all(side % 4 == 0 for side in size):
        every = Looker(model, adaptive=1.0).classify(images)
        assert float((every.labels == plain.labels).float().mean()) > 0.999


@torch.inference_mode()
def test_the_finest_scale_sees_little_of_an_image_that_is_mostly_sure(images):
    pixels = []

    class Counting(Local):
        def forward(self, images):
            pixels.append(images.shape[-2] * images.shape[-1])
            return super().forward(images)

    AdaptiveMultiScale(HierarchicalMultiScale(Counting(), fast=True), 0.9)(images[:1], SCALES)
    assert pixels[0] + pixels[1] == 96 * 160 * 1.25
    assert sum(pixels[2:]) == 4 * 96 * (160 - 112 + MARGIN)
    assert 112 % TILE == 0


@pytest.mark.parametrize(
    ("model", "scales", "sure", "message"),
    [
        ("fast", (0.5, 1), 0.7, "adaptive looking saves at scales above 1, got 0.5,1;"),
        ("fast", None, 1.5, "must lie above 0 and up to 1, got 1.5"),
        ("explicit", None, 0.7, "method 'explicit' needs all its scales everywhere"),
    ],
)
def test_what_cannot_adapt_is_told(images, model, scales, sure, message):
    config = ModelConfig(
        backbone=BackboneConfig(name="tiny", pretrained=False),
        decoder=DecoderConfig(kind="light", light_channels=16),
        multiscale=MultiScaleConfig(method="explicit"),
    )
    network = build_model(config, 3) if model == "explicit" else LOCAL[model]()
    with pytest.raises(UserError, match=message):
        Looker(network, adaptive=sure).classify(images, scales)
