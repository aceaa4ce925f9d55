import torch

from polyscale.backbones import BackboneConfig, build_backbone


def test_size_and_view():
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(name="tiny")).eval()
    assert 150_000 < sum(parameter.numel() for parameter in backbone.parameters()) < 250_000
    x = torch.randn(1, 3, 192, 192, requires_grad=True)
    backbone(x)[0][0, :, 24, 24].sum().backward()
    seen = x.grad[0].abs().sum(0).nonzero()
    extent = seen.max(0).values - seen.min(0).values + 1
    assert all(80 <= side <= 120 for side in extent.tolist()), extent
