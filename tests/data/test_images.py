import errno
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from polyscale.data.images import image_size, open_image, read_image, to_rgb
from polyscale.data.masks import read_mask
from polyscale.errors import UserError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)


def png(path, depth, color_type, rows, before=(), after=()):
    """Write a PNG by hand: rows are the packed bytes of each line."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, lines = rows
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + line for line in lines))
    chunks = [(b"IHDR", header), *before, (b"IDAT", pixels), *after, (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*entry) for entry in chunks))
    return path


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data.tobytes()


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_rgb_is_read_exactly(tmp_path, name):
    Image.fromarray(RGB).save(tmp_path / name)
    image = read_image(tmp_path / name)
    assert image.dtype == np.uint8
    assert image.flags["C_CONTIGUOUS"]
    assert image.flags["WRITEABLE"]
    np.testing.assert_array_equal(image, RGB)


def test_lossless_webp_is_read_exactly(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.webp", lossless=True)
    np.testing.assert_array_equal(read_image(tmp_path / "a.webp"), RGB)


def test_jpeg_is_what_pillow_reads(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), np.asarray(Image.open(tmp_path / "a.jpg")))


def test_grey_becomes_three_equal_channels(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.stack([GREY] * 3, axis=2))


def test_black_and_white_becomes_0_and_255(tmp_path):
    Image.fromarray(GREY > 127).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 1], np.where(GREY > 127, 255, 0))


def test_alpha_is_dropped_and_hidden_colours_stay(tmp_path):
    alpha = np.zeros((5, 7, 1), np.uint8)
    Image.fromarray(np.concatenate([RGB, alpha], axis=2)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), RGB)


def test_alpha_of_a_grey_image_is_dropped(tmp_path):
    Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (7, 5), 3)]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.stack([GREY] * 3, axis=2))


def test_a_palette_gives_its_colours(tmp_path):
    indices = GREY % 3
    colors = np.array([[255, 0, 0], [0, 255, 0], [1, 2, 3]], np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(colors.tobytes())
    image.save(tmp_path / "a.png", transparency=1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), colors[indices])


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_grey_keeps_its_high_byte(tmp_path, name):
    Image.fromarray(DEEP).save(tmp_path / name)
    np.testing.assert_array_equal(read_image(tmp_path / name), np.stack([(DEEP // 256).astype(np.uint8)] * 3, axis=2))


def test_16_bit_rgb_keeps_its_high_byte(tmp_path):
    deep = RNG.integers(0, 65536, (5, 7, 3), dtype=np.uint16)
    path = png(tmp_path / "a.png", 16, 2, (5, 7, [line.astype(">u2").tobytes() for line in deep]))
    np.testing.assert_array_equal(read_image(path), (deep >> 8).astype(np.uint8))


def test_32_bit_integers_are_read_as_16_bits_or_refused(tmp_path):
    Image.fromarray(DEEP.astype(np.int32)).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 0], DEEP >> 8)
    Image.fromarray(np.full((2, 2), 65536, np.int32)).save(tmp_path / "b.tif")
    with pytest.raises(UserError, match=r"b\.tif: integers from .* to .* have no fixed range as an image"):
        read_image(tmp_path / "b.tif")


def test_floats_are_refused(tmp_path):
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif: 32-bit floats .* 8 or 16 bits"):
        read_image(tmp_path / "a.tif")


def test_cmyk_is_converted(tmp_path):
    Image.new("CMYK", (16, 8), (255, 0, 0, 0)).save(tmp_path / "a.jpg", quality=95)
    image = read_image(tmp_path / "a.jpg").astype(int)
    assert image.shape == (8, 16, 3)
    assert np.abs(image - [0, 255, 255]).max() <= 3  # cyan


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_exif_rotation_is_that_of_pillow(tmp_path, name, orientation):
    path = tmp_path / name
    Image.fromarray(RGB).save(path, exif=exif(orientation))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(read_image(path), expected)
    assert expected.shape[:2] == ((7, 5) if orientation > 4 else (5, 7))
    assert image_size(path) == expected.shape[:2]


@pytest.mark.parametrize("place", ["before", "after"])
def test_exif_data_on_either_side_of_the_pixels_of_a_png_turn_it(tmp_path, place):
    rows = (5, 7, [line.tobytes() for line in RGB])
    path = png(tmp_path / "a.png", 8, 2, rows, **{place: [(b"eXIf", exif(6).removeprefix(b"Exif\0\0"))]})
    np.testing.assert_array_equal(read_image(path), np.rot90(RGB, -1))
    assert image_size(path) == (7, 5)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_count_as_none(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), RGB)


def test_a_pillow_image_is_turned_like_its_file_and_not_shared(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif(8))
    with Image.open(tmp_path / "a.png") as image:
        pixels = to_rgb(image)
        pixels[:] = 0
        np.testing.assert_array_equal(to_rgb(image), read_image(tmp_path / "a.png"))
    assert read_image(tmp_path / "a.png").any()


@pytest.mark.filterwarnings("ignore::polyscale.data.left_out.PartialImageWarning")
def test_the_first_frame_of_several_is_read(tmp_path):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), RGB)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.gif", "a.bmp"])
@pytest.mark.parametrize("kept", [0.3, 0.7])
def test_a_truncated_file_is_one_line_that_names_it(tmp_path, name, kept):
    noise = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(UserError) as caught:
        read_image(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_flipped_bytes_never_raise_anything_else(tmp_path, monkeypatch):
    monkeypatch.setattr("polyscale.data.images.MAX_PIXELS", 10**6)  # or damaged headers ask for gigabytes
    noise = RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    outcomes = set()
    for suffix in ("jpg", "png", "webp", "tif", "gif", "bmp"):
        Image.fromarray(noise).save(tmp_path / f"a.{suffix}")
        content = (tmp_path / f"a.{suffix}").read_bytes()
        for _ in range(60):
            damaged = bytearray(content)
            for position in RNG.integers(0, min(len(content), 400), 4):
                damaged[position] = RNG.integers(0, 256)
            (tmp_path / f"b.{suffix}").write_bytes(damaged)
            try:
                outcomes.add(read_image(tmp_path / f"b.{suffix}").dtype.name)
            except UserError:
                outcomes.add("refused")
    assert outcomes == {"uint8", "refused"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.jpg is empty \(0 bytes\)"),
        (b"<html>not found</html>", r"a\.jpg is not an image that can be read; allowed are JPEG, PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", r"a\.jpg is not an image"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path, content, message):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_image(tmp_path / "a.jpg")
    with pytest.raises(UserError, match=message):
        image_size(tmp_path / "a.jpg")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such image file"):
        read_image(tmp_path / "a.jpg")
    with pytest.raises(UserError, match="is a folder, not an image file"):
        read_image(tmp_path)


def test_large_images_pass_without_a_warning_and_the_process_keeps_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow warns above, and raises above twice that
    Image.fromarray(RGB).save(tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "a.png").shape == (5, 7, 3)
        assert image_size(tmp_path / "a.png") == (5, 7)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}])
def test_a_tiff_beyond_pillows_limit_is_read(tmp_path, monkeypatch, options):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.fromarray(RGB).save(tmp_path / "a.tif", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), RGB)
        Image.fromarray(GREY).save(tmp_path / "b.tif", **options)
        np.testing.assert_array_equal(read_mask(tmp_path / "b.tif"), GREY)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_an_image_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("RGB", (2, 2)).save(path)

    def refuse(*_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)  # root may read every file
    with pytest.raises(UserError, match=r"a\.png may not be read: permission denied; change its permissions"):
        read_image(path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    for read in (read_image, image_size, read_mask):
        with pytest.raises(UserError, match=r"a\.png is a pipe or device, not an image file"):
            read(tmp_path / "a.png")


def test_a_png_whose_bytes_are_too_few_for_its_pixels_is_refused_before_they_are_made(tmp_path):
    path = png(tmp_path / "a.png", 8, 2, (44_000, 44_000, [bytes(100)]))
    with pytest.raises(UserError, match=r"a\.png cannot be read: its .* bytes are too few for 44000 x 44000 pixels"):
        read_image(path)
    even = np.zeros((3000, 4000), np.uint8)  # a plain surface is packed as densely as deflate can
    Image.fromarray(even).save(tmp_path / "b.png", optimize=True)
    np.testing.assert_array_equal(read_mask(tmp_path / "b.png"), even)


@pytest.mark.parametrize(("suffix", "place"), [(".gif", 6), (".bmp", 18)])
def test_other_files_too_small_for_their_pixels_are_refused_before_they_are_made(tmp_path, suffix, place):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    size, width = ("<HH", 2) if suffix == ".gif" else ("<ii", 4)
    content[place : place + 2 * width] = struct.pack(size, 30_000, 30_000)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"bytes are too few for 30000 x 30000 pixels"):
        read_image(path)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [(".gif", {}), (".webp", {"lossless": True}), (".jpg", {}), (".tif", {"compression": "group4"})],
)
def test_plain_surfaces_are_read_however_densely_they_are_packed(tmp_path, suffix, options):
    even = Image.new("1" if suffix == ".tif" else "L", (6000, 5000))
    even.save(tmp_path / f"a{suffix}", **options)
    assert not read_image(tmp_path / f"a{suffix}").any()


@pytest.mark.parametrize(("width", "height"), [(50_000, 50_000), (100_000, 100_000)])
def test_an_image_beyond_the_limit_is_refused_by_its_header(tmp_path, width, height):
    path = png(tmp_path / "a.png", 8, 0, (height, width, []))
    with pytest.raises(UserError, match=r"a\.png has .* pixels, more than the 2,000,000,000"):
        image_size(path)


def test_many_threads_may_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.fromarray(RGB).save(tmp_path / "a.png")
    results = []
    threads = [
        threading.Thread(target=lambda: results.extend(read_image(tmp_path / "a.png").shape for _ in range(20)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [(5, 7, 3)] * 80
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_forked_while_others_read_can_read(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    stop = threading.Event()

    def keep_reading():
        while not stop.is_set():
            image_size(tmp_path / "a.png")

    thread = threading.Thread(target=keep_reading)
    thread.start()
    try:
        for _ in range(5):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads forks is the point
                child = os.fork()
            if child == 0:
                os._exit(0 if image_size(tmp_path / "a.png") == (5, 7) else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join()


def test_errors_inside_the_block_name_the_file(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    with (
        pytest.raises(UserError, match=r"a\.png cannot be read: odd; replace or remove it"),
        open_image(tmp_path / "a.png"),
    ):
        raise SyntaxError("odd")
