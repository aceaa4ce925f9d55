import pytest
import torch

from polyscale.decoders import DecoderConfig, build_decoder
from polyscale.decoders.aspp import ASPP, DPC, build_pyramid

WIDTH = 8


@pytest.mark.parametrize(("stride", "factor"), [(4, 2.0), (8, 2.0), (16, 1.0), (32, 0.5)])
def test_rates_follow_the_stride(stride, factor):
    aspp = build_pyramid(DecoderConfig(kind="deeplabv3plus", aspp_channels=WIDTH), 4, stride)
    assert isinstance(aspp, ASPP)
    assert [branch[0].dilation for branch in aspp.branches[1:]] == [(int(r * factor),) * 2 for r in (6, 12, 18)]
    cell = build_pyramid(DecoderConfig(kind="deeplabv3plus", aspp_channels=WIDTH, pyramid="dpc"), 4, stride)
    assert isinstance(cell, DPC)
    published = [(1, 6), (18, 15), (6, 21), (1, 1), (6, 3)]
    expected = [tuple(max(1, int(rate * factor)) for rate in rates) for rates in published]
    assert [branch[0].dilation for branch in cell.branches] == expected
    assert [branch[0].padding for branch in cell.branches] == expected


def test_the_cells_branches_read_what_the_search_found():
    """Branches b, c and d read a, and e reads b."""
    torch.manual_seed(0)
    cell = build_pyramid(DecoderConfig(kind="deeplabv3plus", aspp_channels=WIDTH, pyramid="dpc"), 4, 16).eval()
    x = torch.randn(1, 4, 9, 11)
    a, b, c, d, e = cell.branches
    with torch.no_grad():
        first = a(x)
        second = b(first)
        assert torch.equal(cell(x), torch.cat([first, second, c(first), d(first), e(second)], dim=1))
    assert cell.channels == 5 * WIDTH


@pytest.mark.parametrize("kind", ["deeplabv3", "deeplabv3plus", "deeperlab"])
def test_every_deeplab_takes_either_pyramid(kind):
    for pyramid, cls in (("aspp", ASPP), ("dpc", DPC)):
        config = DecoderConfig(kind=kind, pyramid=pyramid, aspp_channels=WIDTH)
        assert isinstance(build_decoder(config, (4, 8, 16), (2, 4, 8), 3).aspp, cls)


def test_separable_branches_have_a_fraction_of_the_weights():
    plain, separable = (ASPP(64, 32, [1, 2], depthwise) for depthwise in (False, True))
    counts = [sum(parameter.numel() for parameter in aspp.branches[1].parameters()) for aspp in (plain, separable)]
    assert counts == [64 * 32 * 9 + 2 * 32, 64 * 9 + 2 * 64 + 64 * 32 + 2 * 32]
    x = torch.randn(2, 64, 9, 11)
    assert separable.eval()(x).shape == plain.eval()(x).shape
