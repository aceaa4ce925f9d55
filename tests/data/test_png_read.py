import io
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from polyscale.data import read_image
from polyscale.data.png_read import decode_quickly
from polyscale.errors import UserError

pytest.importorskip("pyspng")


@pytest.fixture
def pixels():
    """Smooth and noisy, so that every filter of rows is used."""
    rows, columns = np.mgrid[:61, :47]
    smooth = np.stack([rows * 3, columns * 4, rows + columns], axis=2)
    return (smooth + np.random.default_rng(0).integers(0, 9, (61, 47, 3))).astype(np.uint8)


def by_pillow(path, monkeypatch):
    """``read_image`` where pyspng is not installed."""
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyspng", None)
        assert decode_quickly(path, (1, 1)) is None
        return read_image(path)


def outcome(read):
    """What is read, or the message of the error."""
    try:
        return read()
    except UserError as error:
        return str(error)


def chunk(kind, data):
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def test_a_photograph_is_decoded_to_the_same_pixels(pixels, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    np.testing.assert_array_equal(decode_quickly(path, (47, 61)), pixels)
    read = read_image(path)
    np.testing.assert_array_equal(read, pixels)
    assert read.flags.c_contiguous
    assert read.flags.writeable


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "I;16"])
def test_other_kinds_are_left_to_pillow(pixels, tmp_path, monkeypatch, mode):
    path = tmp_path / "a.png"
    image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 200) if mode == "I;16" else Image.fromarray(pixels)
    image.convert(mode).save(path)
    assert decode_quickly(path, image.size) is None
    np.testing.assert_array_equal(read_image(path), by_pillow(path, monkeypatch))


def test_a_colour_that_counts_as_transparent_is_kept(pixels, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path, transparency=tuple(pixels[0, 0].tolist()))
    np.testing.assert_array_equal(read_image(path), pixels)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("value", range(1, 9))
def test_rotation_is_applied(pixels, tmp_path, monkeypatch, value, late):
    path, exif = tmp_path / "a.png", Image.Exif()
    exif[0x0112] = value
    Image.fromarray(pixels).save(path, **({} if late else {"exif": exif}))
    if late:
        content = path.read_bytes()
        path.write_bytes(content[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + content[-12:])
    np.testing.assert_array_equal(read_image(path), by_pillow(path, monkeypatch))


def test_gamma_and_text_change_nothing(pixels, tmp_path):
    path, text = tmp_path / "a.png", PngImagePlugin.PngInfo()
    text.add(b"gAMA", (22222).to_bytes(4, "big"))
    text.add_text("Title", "street")
    Image.fromarray(pixels).save(path, pnginfo=text)
    np.testing.assert_array_equal(decode_quickly(path, (47, 61)), pixels)


def test_a_damaged_file_is_told_as_pillow_tells_it(pixels, tmp_path, monkeypatch):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    content, path, refused = file.getvalue(), tmp_path / "a.png", 0
    rng = np.random.default_rng(1)
    for cut in (*range(34, len(content), 97), *rng.integers(40, len(content), 100).tolist()):
        damaged = content[:cut] if cut % 2 else content[:cut] + bytes([content[cut] ^ 55]) + content[cut + 1 :]
        path.write_bytes(damaged)
        expected, found = outcome(lambda: by_pillow(path, monkeypatch)), outcome(lambda: read_image(path))
        refused += isinstance(expected, str)
        np.testing.assert_array_equal(found, expected)
    assert refused > 20


def test_beside_the_main_thread_pillow_decodes(pixels, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(decode_quickly, path, (47, 61)).result() is None
        np.testing.assert_array_equal(threads.submit(read_image, path).result(), pixels)
