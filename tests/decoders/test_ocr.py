import numpy as np
import pytest
import torch

from polyscale.decoders import DecoderConfig, build_decoder
from polyscale.decoders.ocr import ObjectAttention, object_regions


def test_object_regions_are_weighted_means():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, 5, 3, 4, generator=generator, dtype=torch.float64)
    logits = torch.randn(2, 3, 3, 4, generator=generator, dtype=torch.float64)
    weights = np.exp(logits.numpy())
    expected = np.einsum("nfhw,nchw->nfc", pixels, weights) / weights.sum(axis=(2, 3))[:, None, :]
    np.testing.assert_allclose(object_regions(pixels, logits)[..., 0], expected, rtol=1e-12)


def test_object_regions_keep_small_weights_in_half_precision():
    """Each of 65,536 pixels weighs 2**-16: in half precision sums of such products go wrong."""
    pixels = torch.full((1, 1, 256, 256), 3.0, dtype=torch.float16)
    with torch.autocast("cpu", torch.bfloat16):
        regions = object_regions(pixels, torch.zeros(1, 2, 256, 256, dtype=torch.bfloat16))
    torch.testing.assert_close(regions, torch.full((1, 1, 2, 1), 3.0), rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_all_runs_in_one_number_type(dtype):
    torch.manual_seed(0)
    attention = ObjectAttention(6, 4).eval()
    pixels, logits = torch.randn(1, 6, 9, 9), torch.randn(1, 3, 9, 9)
    with torch.no_grad():
        expected = attention(pixels, object_regions(pixels, logits))
        pixels, logits = pixels.to(dtype), logits.to(dtype)
        found = attention.to(dtype)(pixels, object_regions(pixels, logits))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.02)


def test_attention_mixes_region_values():
    """Against the paper's sums, written out with numpy on the layers' own outputs."""
    torch.manual_seed(0)
    attention = ObjectAttention(6, 4).double().eval()
    pixels, regions = torch.randn(2, 6, 3, 5).double(), torch.randn(2, 6, 7, 1).double()
    with torch.no_grad():
        query, key, value = (
            layer(x).numpy()
            for layer, x in ((attention.query, pixels), (attention.key, regions), (attention.value, regions))
        )
        similarity = np.exp(np.einsum("nkhw,nkc->nhwc", query, key[..., 0]) / 2)
        similarity /= similarity.sum(axis=-1, keepdims=True)
        mixed = np.einsum("nhwc,nkc->nkhw", similarity, value[..., 0])
        expected = attention.out(torch.from_numpy(mixed))
        torch.testing.assert_close(attention(pixels, regions), expected, rtol=1e-10, atol=1e-12)


def test_published_sizes_for_hrnet_w48():
    """Tensor shapes of the published network with 19 classes."""
    with torch.device("meta"):
        decoder = build_decoder(DecoderConfig(kind="ocr"), (48, 96, 192, 384), (4, 8, 16, 32), 19)
    shapes = {key: tuple(value.shape) for key, value in decoder.state_dict().items()}
    assert decoder.feature_channels == 512
    assert shapes["pixels.0.weight"] == (512, 720, 3, 3)
    assert shapes["auxiliary.0.weight"] == (720, 720, 1, 1)
    assert shapes["attention.query.1.0.weight"] == (256, 256, 1, 1)
    assert shapes["join.0.weight"] == (512, 1024, 1, 1)
    assert sum(parameter.numel() for parameter in decoder.parameters()) == 5_047_558


def test_maps_are_resized_to_the_finest_and_joined():
    torch.manual_seed(0)
    config = DecoderConfig(kind="ocr", ocr_channels=16, ocr_key_channels=8)
    decoder = build_decoder(config, (2, 4, 6), (2, 4, 8), 3).eval()
    decoded = decoder([torch.randn(1, 2, 33, 47), torch.randn(1, 4, 17, 24), torch.randn(1, 6, 9, 12)])
    assert decoded.features.shape == (1, 16, 17, 24)
    assert decoded.logits.shape == decoded.aux.shape == (1, 3, 17, 24)


def test_of_dilated_stages_only_the_deepest_map_is_joined():
    config = DecoderConfig(kind="ocr", ocr_channels=16, ocr_key_channels=8)
    dilated = (64, 256, 512, 1024, 2048), (2, 4, 8, 8, 8)
    with torch.device("meta"):
        assert build_decoder(config, *dilated, 3).pixels[0].in_channels == 256 + 2048
        coarse = build_decoder(config.model_copy(update={"fine_stride": 8}), *dilated, 3)
    assert coarse.pixels[0].in_channels == 2048


@pytest.mark.parametrize(
    ("channels", "strides", "fine_stride", "joined"),
    [((48, 96, 192, 384), (4, 8, 16, 32), 4, 720), ((128, 256, 4096), (2, 4, 8), 8, 4096)],
)
def test_published_sizes_with_a_pyramid_in_front(channels, strides, fine_stride, joined):
    """Tensor shapes of the published OCRNetASPP; the pyramid's rates are those of stride 8 on HRNet, too."""
    config = DecoderConfig(kind="ocr", ocr_pyramid=True, fine_stride=fine_stride)
    with torch.device("meta"):
        decoder = build_decoder(config, channels, strides, 19)
    shapes = {key: tuple(value.shape) for key, value in decoder.state_dict().items()}
    assert shapes["aspp.branches.1.0.weight"] == (256, joined, 3, 3)
    assert shapes["pixels.0.weight"] == (512, 1280, 3, 3)
    assert shapes["auxiliary.0.weight"] == (1280, 1280, 1, 1)
    assert [branch[0].dilation[0] for branch in decoder.aspp.branches] == [1, 12, 24, 36]
