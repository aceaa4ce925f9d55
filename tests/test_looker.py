import pytest
import torch

from polyscale.backbones import BackboneConfig
from polyscale.decoders import DecoderConfig
from polyscale.errors import UserError
from polyscale.looker import Looker
from polyscale.models import AttentionConfig, ModelConfig, MultiScaleConfig, build_model


def network(method, fusion="exact", source="scale"):
    """A small network whose logits differ enough from pixel to pixel for its classes to."""
    torch.manual_seed(0)
    config = ModelConfig(
        backbone=BackboneConfig(name="tiny", pretrained=False),
        decoder=DecoderConfig(kind="light", light_channels=16),
        multiscale=MultiScaleConfig(method=method, fusion=fusion, attention=AttentionConfig(channels=8, source=source)),
    )
    model = build_model(config, 5)
    torch.nn.init.normal_(model.segmenter.decoder.classifier.weight, std=2.0)
    return model


@pytest.fixture
def images():
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    "chosen",
    [
        ("hierarchical", "exact"),
        ("hierarchical", "fast"),
        ("hierarchical", "fast", "pair"),
        ("single",),
        ("explicit", "fast"),
    ],
)
def test_classes_are_those_of_the_largest_probabilities(images, chosen, flip):
    looker = Looker(network(*chosen))
    looked, found = looker.look(images, flip=flip), looker.classify(images, flip=flip)
    confidence, labels = looked.probabilities.max(1)
    assert torch.equal(found.labels.long(), labels)
    torch.testing.assert_close(found.confidence, confidence, rtol=1e-4, atol=1e-5)
    assert list(found.weights) == list(looked.weights)
    for scale, weight in looked.weights.items():
        torch.testing.assert_close(found.weights[scale], weight)


@pytest.mark.parametrize("flip", [False, True])
def test_an_average_of_views_enlarged_once_is_nearly_the_same(images, flip):
    looker = Looker(network("average"))
    probabilities = looker.look(images, flip=flip).probabilities
    found = looker.classify(images, flip=flip)
    assert float((found.labels == probabilities.argmax(1)).float().mean()) > 0.98
    assert float((found.confidence - probabilities.amax(1)).abs().max()) < 0.1


def test_a_batch_too_large_is_looked_at_in_halves(images, monkeypatch):
    looker = Looker(network("hierarchical", "fast"))
    whole = looker.classify(images)
    maps, seen = looker._ready.maps, []

    def small_memory(batch, scales):
        if len(batch) > 1:
            raise torch.OutOfMemoryError
        seen.append(len(batch))
        return maps(batch, scales)

    monkeypatch.setattr(looker._ready, "maps", small_memory)
    parts = looker.classify(images)
    assert seen == [1, 1]
    assert torch.equal(parts.labels, whole.labels)
    assert all(parts.weights[scale].shape == weight.shape for scale, weight in whole.weights.items())


def test_a_network_that_diverged_is_told(images):
    model = network("hierarchical", "fast")
    model.segmenter.decoder.classifier.bias.data[2] = float("nan")
    with pytest.raises(UserError, match="not finite"):
        Looker(model).classify(images)
