import numpy as np
import pytest
import torch

from polyscale.errors import UserError
from polyscale.tiles import ArrayPixels, Tiles, classify_in_tiles, look, look_in_tiles

METHODS = ("hierarchical", "fast", "views", "pair", "explicit", "average", "single", "own")


def whole(looker, pixels, **how):
    return looker.classify(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255, **how)


def check_equal(found, expected):
    torch.testing.assert_close(found.confidence, expected.confidence, rtol=1e-4, atol=1e-5)
    assert float((found.labels == expected.labels).float().mean()) > 0.9999  # two classes may be equal to rounding
    assert list(found.weights) == list(expected.weights)
    for scale, weight in expected.weights.items():
        torch.testing.assert_close(found.weights[scale], weight, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_tiles_give_what_the_whole_image_gives(looker, photo, method, flip):
    looker, pixels = looker(method), photo(320, 448)
    tiles = Tiles(320, 256) if method == "views" else Tiles(192, 96)  # whose head sees far
    found = classify_in_tiles(looker, ArrayPixels(pixels), tiles, flip=flip)
    check_equal(found, whole(looker, pixels, flip=flip))


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0), (0.25, 1.0), (0.75, 1.0, 1.5)])
def test_tiles_of_other_scales(looker, photo, scales):
    looker, pixels = looker(), photo(384, 640)
    found = classify_in_tiles(looker, ArrayPixels(pixels), Tiles(256, 96), scales)
    check_equal(found, whole(looker, pixels, scales=scales))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size", [(321, 450), (333, 64), (200, 1), (3, 500)])
def test_odd_sizes_are_nearly_the_same(looker, photo, size, flip):
    looker, pixels = looker(), photo(*size)
    found = classify_in_tiles(looker, ArrayPixels(pixels), Tiles(192, 96), flip=flip)
    expected = whole(looker, pixels, flip=flip)
    assert found.labels.shape == expected.labels.shape
    assert float((found.labels == expected.labels).float().mean()) > 0.9


def test_an_image_not_larger_than_a_tile_is_seen_whole(looker, photo):
    looker, pixels = looker(), photo(123, 77)
    found = classify_in_tiles(looker, ArrayPixels(pixels), Tiles(123, 16))
    check_equal(found, whole(looker, pixels))


def test_blocks_cover_the_image_once_in_reading_order(looker, photo):
    pixels, seen, order = photo(300, 500), np.zeros((300, 500), dtype=int), []
    for block in look_in_tiles(looker(), ArrayPixels(pixels), Tiles(128, 32), (1.0,)):
        seen[block.rows, block.columns] += 1
        order.append((block.rows.start, block.columns.start))
        assert block.labels.shape == block.confidence.shape == seen[block.rows, block.columns].shape
    assert (seen == 1).all()
    assert order == sorted(order)
    assert block.done == block.total == len(order) > 6


def test_no_part_larger_than_a_tile_and_its_context_is_read(looker, photo, monkeypatch):
    monkeypatch.setattr(look, "_SAMPLE", 64)

    class Watched(ArrayPixels):
        largest = 0

        def read(self, rows, columns):
            self.largest = max(self.largest, rows.stop - rows.start, columns.stop - columns.start)
            return super().read(rows, columns)

    image = Watched(photo(700, 900))
    list(look_in_tiles(looker(), image, Tiles(192, 64), (0.5, 1.0)))
    assert image.largest <= 2 * 192 + 2 * 64


def test_the_coarse_scale_sees_twice_as_much(looker, photo, monkeypatch):
    looker, seen = looker(), {}
    forward = type(looker.model.segmenter).forward

    def watch(self, images):
        seen.setdefault(tuple(images.shape[-2:]), 0)
        return forward(self, images)

    monkeypatch.setattr(type(looker._ready.segmenter), "forward", watch)
    blocks = list(look_in_tiles(looker, ArrayPixels(photo(768, 64)), Tiles(320, 64), (0.5, 1.0)))
    assert len(blocks) == 3
    # The middle tile owns 256 rows: with 32 of the scale's own pixels at each end, 320 at scale 1 and 192 at 0.5.
    assert {(320, 64), (192, 32)} <= set(seen)


def test_what_is_averaged_over_the_image_is_so_in_each_tile(looker, photo):
    looker = looker(pooled=True)
    pixels = photo(320, 448)
    pixels[:, 224:] //= 3  # a dark half, whose own mean would be another
    found, expected = classify_in_tiles(looker, ArrayPixels(pixels), Tiles(192, 96)), whole(looker, pixels)
    assert float((found.labels == expected.labels).float().mean()) > 0.995
    assert float((found.confidence - expected.confidence).abs().mean()) < 0.01


def test_without_overlap_nothing_is_blended(looker, photo):
    pixels = photo(256, 256)
    found = classify_in_tiles(looker(), ArrayPixels(pixels), Tiles(128, 0), (1.0,))
    part = whole(looker(), pixels[128:, :128].copy(), scales=(1.0,))
    torch.testing.assert_close(found.confidence[:, 128:, :128], part.confidence)


@pytest.mark.parametrize(
    ("tiles", "message"),
    [
        (Tiles(16, 0), "a tile of 16 pixels is smaller than the network's stride of 32"),
        (Tiles(128, 128), "an overlap of 128 pixels does not suit tiles of 128; choose --overlap from 0 to 96"),
        (Tiles(128, -1), "an overlap of -1"),
    ],
)
def test_tiles_that_cannot_be(looker, photo, tiles, message):
    with pytest.raises(UserError, match=message):
        look_in_tiles(looker(), ArrayPixels(photo(200, 200)), tiles)


def test_a_tile_too_large_for_memory_is_told(looker, photo, monkeypatch):
    looker = looker()

    def small_memory(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(looker, "maps", small_memory)
    with pytest.raises(UserError, match="does not fit into memory; choose a smaller --tile"):
        list(look_in_tiles(looker, ArrayPixels(photo(300, 300)), Tiles(128, 32)))


def test_a_network_that_diverged_is_told(looker, photo):
    looker = looker()
    looker._ready.segmenter.logits.weight.data[1] = float("nan")
    with pytest.raises(UserError, match="not finite"):
        list(look_in_tiles(looker, ArrayPixels(photo(300, 300)), Tiles(128, 32)))
