import io
import zlib

import numpy as np
import pytest
from PIL import Image

from polyscale.data.masks import read_mask, write_mask
from polyscale.data.png import IndexPng, encode_index_png
from polyscale.data.streets import STREETS, draw_scene
from polyscale.labels import IGNORE


@pytest.mark.parametrize(("bits", "height", "width"), [(8, 17, 23), (8, 1, 1), (4, 9, 8), (4, 9, 7)])
@pytest.mark.parametrize("kind", ["noise", "steep", "flat"])
def test_pillow_reads_the_indices_and_colours_that_were_written(tmp_path, bits, height, width, kind):
    rng = np.random.default_rng(0)
    number = 2**bits
    indices = {
        "noise": rng.integers(0, number, (height, width)),
        "steep": np.broadcast_to(rng.integers(0, number, (1, width)), (height, width)),
        "flat": np.full((height, width), number - 1),
    }[kind].astype(np.uint8)
    palette = rng.integers(0, 256, (number, 3), dtype=np.uint8)
    data = encode_index_png(indices, palette)
    picture = Image.open(io.BytesIO(data))
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.array(picture), indices)
    np.testing.assert_array_equal(np.array(picture.convert("RGB")), palette[indices])
    (tmp_path / "a.png").write_bytes(data)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), indices)


@pytest.mark.parametrize("kind", ["noise", "flat"])
def test_without_a_palette_it_is_grey(kind):
    values = (
        np.random.default_rng(0).integers(0, 256, (9, 13), dtype=np.uint8) if kind == "noise" else np.full((9, 13), 7)
    )
    picture = Image.open(io.BytesIO(encode_index_png(values.astype(np.uint8), None)))
    assert picture.mode == "L"
    np.testing.assert_array_equal(np.array(picture), values)


@pytest.mark.parametrize("settings", [{}, {"compress_type": zlib.Z_RLE}, {"compress_type": zlib.Z_FILTERED}])
def test_with_ignored_pixels_labels_are_smaller_than_pillow_makes_them_as_quickly(tmp_path, settings):
    labels = draw_scene(0, 0, (1024, 2048)).labels.copy()
    labels[:8] = IGNORE
    write_mask(tmp_path / "a.png", labels, STREETS)
    pillow = io.BytesIO()
    Image.open(tmp_path / "a.png").save(pillow, "PNG", **settings)
    assert (tmp_path / "a.png").stat().st_size < 0.6 * pillow.tell()


@pytest.mark.parametrize("colors", [None, 3, 40])
def test_rows_written_by_and_by_give_the_same_picture(colors):
    rng = np.random.default_rng(0)
    indices = rng.integers(0, colors or 256, (9, 7), dtype=np.uint8)
    palette = None if colors is None else rng.integers(0, 256, (colors, 3), dtype=np.uint8)
    file = io.BytesIO()
    writer = IndexPng(file, (9, 7), palette)
    for start in range(0, 9, 4):
        writer.add(indices[start : start + 4])
    writer.close()
    with Image.open(file) as image:
        np.testing.assert_array_equal(np.array(image), indices)


def test_ids_above_255_take_16_bits():
    ids = np.random.default_rng(0).integers(0, 60000, (5, 6), dtype=np.uint16)
    file = io.BytesIO()
    writer = IndexPng(file, (5, 6), deep=True)
    writer.add(ids[:2])
    writer.add(ids[2:])
    writer.close()
    with Image.open(file) as image:
        np.testing.assert_array_equal(np.array(image), ids)
