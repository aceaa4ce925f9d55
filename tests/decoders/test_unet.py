import torch

from polyscale.decoders import DecoderConfig, build_decoder

CONFIG = DecoderConfig(kind="unet", unet_channels=(12, 8))


def test_maps_are_joined_from_coarse_to_fine():
    torch.manual_seed(0)
    decoder = build_decoder(CONFIG, (4, 5, 6, 7), (2, 4, 8, 16), 3).eval()
    assert [join[0][0].weight.shape[:2] for join in decoder.joins] == [(12, 7 + 6), (8, 12 + 5), (8, 8 + 4)]
    maps = [torch.randn(1, count, *size) for count, size in {4: (17, 24), 5: (9, 12), 6: (5, 6), 7: (3, 3)}.items()]
    decoded = decoder(maps)
    assert decoded.features.shape == (1, decoder.feature_channels, 17, 24) == (1, 8, 17, 24)
    for place in range(4):
        changed = [map_ + (index == place) for index, map_ in enumerate(maps)]
        assert not torch.allclose(decoded.logits, decoder(changed).logits)


def test_of_dilated_stages_the_deepest_is_joined():
    decoder = build_decoder(CONFIG, (4, 5, 6, 7), (4, 8, 8, 8), 3)
    assert (decoder.coarsest, decoder.indices) == (3, [0])


def test_a_single_map_gets_two_convolutions():
    torch.manual_seed(0)
    decoder = build_decoder(CONFIG, (4,), (4,), 3).eval()
    assert decoder.feature_channels == 12
    assert decoder([torch.randn(1, 4, 9, 7)]).logits.shape == (1, 3, 9, 7)
