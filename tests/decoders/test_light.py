import pytest
import torch

from polyscale.decoders import DecoderConfig, build_decoder


def test_strides_finer_than_four_are_left_out():
    torch.manual_seed(0)
    decoder = build_decoder(DecoderConfig(light_channels=16), (8, 12, 16), (2, 4, 8), 3).eval()
    maps = [torch.randn(1, 8, 33, 47), torch.randn(1, 12, 17, 24), torch.randn(1, 16, 9, 12)]
    decoded = decoder(maps)
    assert decoded.logits.shape == (1, 3, 17, 24)
    assert decoded.features.shape == (1, 16, 17, 24)
    assert torch.equal(decoded.logits, decoder([torch.zeros(1, 8, 33, 47), *maps[1:]]).logits)


@pytest.mark.parametrize("context", [True, False])
def test_context_reaches_over_the_whole_image(context):
    torch.manual_seed(0)
    decoder = build_decoder(DecoderConfig(light_channels=16, light_context=context), (4, 4), (4, 32), 2).eval()
    maps = [torch.randn(1, 4, 128, 128), torch.randn(1, 4, 16, 16, requires_grad=True)]
    decoder(maps).logits[0, :, 0, 0].sum().backward()
    assert bool(maps[1].grad[0, :, -1, -1].abs().sum() > 0) is context


def test_one_map_alone_gets_no_context():
    torch.manual_seed(0)
    decoder = build_decoder(DecoderConfig(light_channels=16), (4,), (4,), 2).eval()
    x = torch.randn(1, 4, 16, 16, requires_grad=True)
    decoder([x]).logits[0, :, 0, 0].sum().backward()
    assert x.grad[0].abs().sum(0).nonzero().max() == 1


def test_windows_average_what_lies_inside_the_map():
    """Against sums over slices, in the middle and in a corner."""
    torch.manual_seed(0)
    decoder = build_decoder(DecoderConfig(light_channels=8), (4, 4), (4, 32), 2).eval()
    decoder.windows = decoder.windows[:2]
    decoder.context = decoder.context[:2]
    x = torch.randn(1, 8, 13, 13)
    with torch.no_grad():
        expected = x[0, :, 6, 6].clone()
        for conv, reach in zip(decoder.context, (2, 4), strict=True):
            window = x[0, :, 6 - reach : 7 + reach, 6 - reach : 7 + reach].mean(dim=(1, 2))
            expected += conv.weight[:, :, 0, 0] @ window + conv.bias
        torch.testing.assert_close(decoder._with_context(x)[0, :, 6, 6], expected)
        corner = x[0, :, 0, 0].clone()
        for conv, reach in zip(decoder.context, (2, 4), strict=True):
            corner += conv.weight[:, :, 0, 0] @ x[0, :, : reach + 1, : reach + 1].mean(dim=(1, 2)) + conv.bias
        torch.testing.assert_close(decoder._with_context(x)[0, :, 0, 0], corner)
