import torch

from polyscale.decoders import DecoderConfig, build_decoder


def test_published_sizes():
    """Tensor shapes of the published network with 19 classes on ResNet-50."""
    with torch.device("meta"):
        decoder = build_decoder(DecoderConfig(kind="deeplabv3"), (64, 256, 512, 1024, 2048), (2, 4, 8, 8, 8), 19)
    shapes = {key: tuple(value.shape) for key, value in decoder.state_dict().items()}
    assert decoder.feature_channels == 1280
    assert shapes["head.0.0.weight"] == (256, 1280, 3, 3)
    assert shapes["classifier.weight"] == (19, 256, 1, 1)
    assert "classifier.bias" not in shapes


def test_only_the_coarsest_map_counts_and_gives_the_grid():
    torch.manual_seed(0)
    decoder = build_decoder(DecoderConfig(kind="deeplabv3", aspp_channels=8), (4, 6), (4, 8), 3).eval()
    fine, coarse = torch.randn(1, 4, 9, 12), torch.randn(1, 6, 5, 6)
    decoded = decoder([fine, coarse])
    assert decoded.logits.shape == (1, 3, 5, 6)
    assert decoded.features.shape == (1, 40, 5, 6)
    assert torch.equal(decoder([fine + 1, coarse]).logits, decoded.logits)
