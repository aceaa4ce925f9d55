import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn
from torch.nn import functional

from polyscale.backbones import BackboneConfig
from polyscale.decoders import DecoderConfig
from polyscale.models import AttentionConfig, ModelConfig, MultiScaleConfig, build_model
from polyscale.models.prepare import computes_bfloat16, fold_batch_norms, prepare_for_use

PLUS = {"aspp_channels": 16, "fine_channels": 8}
SMALL = {
    "light": {"light_channels": 24},
    "ocr": {"ocr_channels": 24, "ocr_key_channels": 12},
    "deeplabv3": {"aspp_channels": 16},
    "deeplabv3plus": PLUS,
    "deeperlab": {"aspp_channels": 16},
}


def network(backbone, kind, method="hierarchical", pyramid="aspp"):
    """A network whose norms have statistics and weights as after training."""
    torch.manual_seed(0)
    config = ModelConfig(
        backbone=BackboneConfig(name=backbone, pretrained=False),
        decoder=DecoderConfig(kind=kind, **({"pyramid": pyramid} if pyramid != "aspp" else {}), **SMALL[kind]),
        multiscale=MultiScaleConfig(method=method, attention=AttentionConfig(channels=8)),
    )
    return with_statistics(build_model(config, 5).eval())


def with_statistics(model):
    generator = torch.Generator().manual_seed(1)
    for norm in norms(model):
        norm.running_mean.normal_(0, 0.2, generator=generator)
        norm.running_var.uniform_(0.5, 2, generator=generator)
        norm.weight.data.uniform_(0.5, 1.5, generator=generator)
        norm.bias.data.normal_(0, 0.2, generator=generator)
    return model


def norms(model):
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


class Whole(nn.Module):
    """Runs a function of layers."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        self.layers = nn.ModuleDict(layers)

    def forward(self, x):
        return self.function(self.layers, x)


def test_auxiliary_logits_are_left_out():
    model = network("tiny", "ocr")
    images = torch.rand(1, 3, 32, 32)
    with torch.inference_mode():
        assert model(images).aux is not None
        assert prepare_for_use(model)(images).aux is None


@pytest.mark.parametrize("side", [3, 5, 7])
@pytest.mark.parametrize("size", [(16, 20), (15, 20), (16, 21), (1, 1)])
def test_tensorflows_padding_without_a_copy(side, size):
    torch.manual_seed(0)
    model = nn.Sequential(Conv2dSame(3, 3, side, stride=2, groups=3))
    prepared = prepare_for_use(model)
    assert not isinstance(prepared[0], Conv2dSame)
    images = torch.rand(2, 3, *size)
    with torch.inference_mode():
        torch.testing.assert_close(prepared(images), model(images), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("backbone", "kind", "method", "pyramid"),
    [
        ("tf_efficientnet_lite0", "light", "hierarchical", "aspp"),
        ("hrnet_w18_small", "ocr", "explicit", "aspp"),
        ("resnet18", "deeplabv3plus", "single", "aspp"),
        ("mobilenetv3_large_100", "deeplabv3", "average", "dpc"),
        ("tiny", "deeperlab", "hierarchical", "aspp"),
        ("convnext_atto", "light", "average", "aspp"),
    ],
)
def test_every_norm_is_folded_and_results_stay(backbone, kind, method, pyramid):
    model = network(backbone, kind, method, pyramid)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    prepared = prepare_for_use(model)
    images = torch.rand(1, 3, 70, 97, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        wanted, found = model(images).logits, prepared(images).logits
    assert norms(model)
    assert not norms(prepared)
    assert float((found - wanted).abs().max()) <= 4e-5 * float(wanted.abs().max())
    assert float((found.argmax(1) == wanted.argmax(1)).float().mean()) >= 0.995
    assert not any(parameter.requires_grad for parameter in prepared.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_channels_last_gives_the_same():
    model = network("tiny", "light")
    prepared = prepare_for_use(model, channels_last=True)
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    weight = next(module.weight for module in prepared.modules() if isinstance(module, nn.Conv2d))
    assert weight.is_contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        wanted, found = model(images).logits, prepared(images).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=4e-5 * float(wanted.abs().max()))


def conv():
    return nn.Conv2d(3, 3, 3, padding=1)


UNFOLDABLE = {
    "the norm comes first": Whole(lambda m, x: m.conv(m.norm(x)), conv=conv(), norm=nn.BatchNorm2d(3)),
    "a function between": Whole(lambda m, x: m.norm(functional.relu(m.conv(x))), conv=conv(), norm=nn.BatchNorm2d(3)),
    "two read the convolution": Whole(lambda m, x: (y := m.conv(x)) + m.norm(y), conv=conv(), norm=nn.BatchNorm2d(3)),
    "two convolutions, one norm": Whole(
        lambda m, x: m.norm(m.conv(x)) + m.norm(m.other(x)), conv=conv(), other=conv(), norm=nn.BatchNorm2d(3)
    ),
    "one convolution, two norms": Whole(
        lambda m, x: m.norm(m.conv(x)) + m.other(m.conv(x)),
        conv=conv(),
        norm=nn.BatchNorm2d(3),
        other=nn.BatchNorm2d(3),
    ),
    "a norm that reads the image too": Whole(
        lambda m, x: m.norm(m.conv(x)) + m.norm(x), conv=conv(), norm=nn.BatchNorm2d(3)
    ),
    "a weight made anew": Whole(
        lambda m, x: m.norm(m.conv(x)), conv=nn.utils.parametrizations.weight_norm(conv()), norm=nn.BatchNorm2d(3)
    ),
    "a weight of two layers": Whole(
        lambda m, x: m.norm(m.conv(x)) + m.other(x), conv=conv(), other=conv(), norm=nn.BatchNorm2d(3)
    ),
    "an image too small": Whole(
        lambda m, x: m.norm(m.conv(x))[:, :, 65 - x.shape[2] :] + functional.max_pool2d(x, 65).sum(),
        conv=conv(),
        norm=nn.BatchNorm2d(3),
    ),
}
UNFOLDABLE["a weight of two layers"].layers.other.weight = UNFOLDABLE["a weight of two layers"].layers.conv.weight


@pytest.mark.parametrize("reason", UNFOLDABLE)
def test_what_cannot_be_folded_is_left(reason):
    model = with_statistics(UNFOLDABLE[reason].eval())
    images = torch.rand(1, 3, 80, 80, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        wanted = model(images)
        fold_batch_norms(model)
        # Not to the bit: a weight made anew lies elsewhere in memory, where its norm may be summed in another order.
        torch.testing.assert_close(model(images), wanted, rtol=1e-6, atol=1e-6)
    assert norms(model)


def test_a_norm_in_training_mode_is_left():
    model = Whole(lambda m, x: m.norm(m.conv(x)), conv=conv(), norm=nn.BatchNorm2d(3)).train()
    assert norms(fold_batch_norms(model))


def test_the_layer_used_twice_is_folded_once():
    model = with_statistics(
        Whole(lambda m, x: m.norm(m.conv(m.norm(m.conv(x)))), conv=conv(), norm=nn.BatchNorm2d(3)).eval()
    )
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        wanted = model(images)
        torch.testing.assert_close(fold_batch_norms(model)(images), wanted)
    assert not norms(model)


def test_bfloat16_needs_a_unit(monkeypatch):
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_, **__: "flags : fma avx2")
    assert not computes_bfloat16("cpu")
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_, **__: "flags : fma avx512_bf16")
    assert computes_bfloat16("cpu")
