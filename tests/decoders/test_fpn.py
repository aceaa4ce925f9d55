import torch

from polyscale.decoders import DecoderConfig, build_decoder

CONFIG = DecoderConfig(kind="fpn", fpn_channels=16, fpn_head_channels=8)


def test_levels_are_enlarged_step_by_step_to_the_finest_one():
    torch.manual_seed(0)
    decoder = build_decoder(CONFIG, (4, 5, 6, 7, 8), (2, 4, 8, 16, 32), 3).eval()
    assert [len(head) for head in decoder.heads] == [1, 1, 2, 3]
    sizes = {4: (35, 45), 5: (18, 23), 6: (9, 12), 7: (5, 6), 8: (3, 3)}
    maps = [torch.randn(1, count, *size) for count, size in sizes.items()]
    decoded = decoder(maps)
    assert decoded.features.shape == (1, 8, 18, 23)
    assert decoded.logits.shape == (1, 3, 18, 23)
    assert torch.equal(decoded.logits, decoder([torch.zeros_like(maps[0]), *maps[1:]]).logits)


def test_every_level_counts():
    torch.manual_seed(0)
    decoder = build_decoder(CONFIG, (4, 4, 4), (4, 8, 16), 2).eval()
    maps = [torch.randn(1, 4, 16, 16), torch.randn(1, 4, 8, 8), torch.randn(1, 4, 4, 4)]
    for place in range(3):
        changed = [map_ + (index == place) for index, map_ in enumerate(maps)]
        assert not torch.allclose(decoder(maps).logits, decoder(changed).logits)
