import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from polyscale.data.masks import read_color_mask, read_mask, write_mask
from polyscale.errors import UserError
from polyscale.labels import IGNORE, LabelClass, LabelSpace

IDS = np.array([[0, 1, 2, 3], [3, 2, 1, 15], [0, 0, 9, 9]], np.uint8)
SPACE = LabelSpace(
    name="lanes",
    classes=(
        LabelClass(name="road", color=(128, 64, 128), ids=(7,)),
        LabelClass(name="line", color=(255, 255, 255), ids=(8, 9)),
        LabelClass(name="car", color=(0, 0, 142), ids=(26,)),
    ),
    ignore_ids=(0,),
)
LABELS = np.array([[0, 1, 2, IGNORE], [2, 2, 1, 0]], np.uint8)


def save(path, pixels, palette=None, **options):
    image = Image.fromarray(pixels)
    if palette is not None:
        image.putpalette(np.asarray(palette, np.uint8).tobytes())
    image.save(path, **options)
    return path


def packed_png(path, ids, depth):
    """A grey PNG of 1, 2 or 4 bits, written by hand."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    bits = np.unpackbits(ids[..., None], axis=2)[..., -depth:].reshape(len(ids), -1)
    lines = b"".join(b"\0" + np.packbits(line).tobytes() for line in bits)
    header = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], depth, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_grey_masks_give_their_values(tmp_path, name):
    np.testing.assert_array_equal(read_mask(save(tmp_path / name, IDS)), IDS)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_palette_masks_give_indices_not_colours(tmp_path, name):
    palette = np.random.default_rng(0).integers(0, 256, (16, 3))
    mask = read_mask(save(tmp_path / name, IDS, palette))
    np.testing.assert_array_equal(mask, IDS)


def test_palette_masks_whose_colours_are_grey_give_indices(tmp_path):
    palette = [(255 - i, 255 - i, 255 - i) for i in range(16)]
    np.testing.assert_array_equal(read_mask(save(tmp_path / "a.png", IDS, palette, transparency=0)), IDS)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palette_masks_of_few_bits_give_indices(tmp_path, bits):
    ids = IDS % 2**bits
    palette = np.random.default_rng(0).integers(0, 256, (2**bits, 3))
    np.testing.assert_array_equal(read_mask(save(tmp_path / "a.png", ids, palette, bits=bits)), ids)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_masks_of_few_bits_are_not_stretched(tmp_path, depth):
    ids = IDS % 2**depth
    mask = read_mask(packed_png(tmp_path / "a.png", ids, depth))
    np.testing.assert_array_equal(mask, ids)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_masks_keep_all_their_bits(tmp_path, name):
    ids = np.array([[0, 255, 256, 65535]], np.uint16)
    mask = read_mask(save(tmp_path / name, ids))
    np.testing.assert_array_equal(mask, ids)
    assert mask.dtype.isnative


def test_big_endian_tiff_masks_are_read(tmp_path):
    ids = np.array([[1, 300]], np.uint16)
    Image.frombytes("I;16B", (2, 1), ids.astype(">u2").tobytes()).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), ids)


def test_32_bit_masks_are_read(tmp_path):
    ids = np.array([[0, 70000]], np.int32)
    np.testing.assert_array_equal(read_mask(save(tmp_path / "a.tif", ids)), ids)


def test_masks_of_one_bit_are_0_and_1(tmp_path):
    mask = read_mask(save(tmp_path / "a.png", IDS > 2))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, (IDS > 2).astype(np.uint8))


def test_grey_with_alpha_gives_the_grey(tmp_path):
    Image.merge("LA", [Image.fromarray(IDS), Image.new("L", (4, 3), 9)]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), IDS)


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_are_refused_with_what_to_do(tmp_path, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, channels), dtype=np.uint8)
    with pytest.raises(UserError, match=r"a\.png holds colours .*grey or palette PNG.*color_coded: true"):
        read_mask(save(tmp_path / "a.png", pixels))


def test_three_equal_channels_are_refused_with_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"a\.png .*three equal channels; save one channel"):
        read_mask(save(tmp_path / "a.png", np.stack([IDS] * 3, axis=2)))


def test_jpeg_masks_are_refused(tmp_path):
    path = save(tmp_path / "a.jpg", IDS)
    with pytest.raises(UserError, match=r"a\.jpg is a JPEG, whose compression changes class ids; export .* PNG"):
        read_mask(path)
    with pytest.raises(UserError, match="is a JPEG"):
        read_color_mask(path, SPACE)


def test_gif_masks_are_refused_unless_their_colours_count(tmp_path):
    path = save(tmp_path / "a.gif", SPACE.colorize(LABELS))
    with pytest.raises(UserError, match=r"a\.gif is a GIF, whose ids programs renumber"):
        read_mask(path)
    np.testing.assert_array_equal(read_color_mask(path, SPACE), LABELS)


def test_float_masks_are_refused(tmp_path):
    with pytest.raises(UserError, match="mode F, which holds no class ids"):
        read_mask(save(tmp_path / "a.tif", IDS.astype(np.float32)))


def test_masks_are_never_rotated(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    np.testing.assert_array_equal(read_mask(save(tmp_path / "a.png", IDS, exif=exif)), IDS)


def test_a_damaged_mask_is_one_line(tmp_path):
    (tmp_path / "a.png").write_bytes(save(tmp_path / "b.png", IDS).read_bytes()[:45])
    with pytest.raises(UserError, match=r"a\.png cannot be read"):
        read_mask(tmp_path / "a.png")


def test_colour_coded_masks_are_read_by_the_table(tmp_path):
    pixels = SPACE.colorize(LABELS)
    np.testing.assert_array_equal(read_color_mask(save(tmp_path / "a.png", pixels), SPACE), LABELS)


def test_colour_coded_masks_may_have_a_palette_or_alpha(tmp_path):
    image = Image.fromarray(SPACE.colorize(LABELS))
    image.quantize(8).save(tmp_path / "p.png")
    image.convert("RGBA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_color_mask(tmp_path / "p.png", SPACE), LABELS)
    np.testing.assert_array_equal(read_color_mask(tmp_path / "a.png", SPACE), LABELS)


def test_unknown_colours_are_named_with_counts(tmp_path):
    pixels = SPACE.colorize(LABELS)
    pixels[0, :2] = (1, 2, 3)
    pixels[1, 0] = (255, 255, 254)
    path = save(tmp_path / "a.png", pixels)
    expected = (
        r"a\.png: colours outside the label space 'lanes': \(1, 2, 3\) \(2 px\), \(255, 255, 254\) \(1 px\); give"
    )
    with pytest.raises(UserError, match=expected):
        read_color_mask(path, SPACE)
    lenient = SPACE.model_copy(update={"ignore_unknown": True})
    labels = LABELS.copy()
    labels[0, :2] = labels[1, 0] = IGNORE
    np.testing.assert_array_equal(read_color_mask(path, lenient), labels)


def test_which_colours_are_ignored_can_be_said_but_a_class_keeps_its_own(tmp_path):
    pixels = SPACE.colorize(LABELS)
    pixels[0, 0] = (9, 9, 9)
    path = save(tmp_path / "a.png", pixels)
    labels = read_color_mask(path, SPACE, ignore_colors=[(0, 0, 0), (9, 9, 9), (0, 0, 142)])
    assert labels[0].tolist() == [IGNORE, 1, 2, IGNORE]


def test_classes_of_one_colour_cannot_be_told_apart(tmp_path):
    space = LabelSpace(classes=tuple(LabelClass(name=name, color=(1, 2, 3)) for name in "ab"))
    with pytest.raises(UserError, match=r"'a' and 'b' share \(1, 2, 3\)"):
        read_color_mask(save(tmp_path / "a.png", SPACE.colorize(LABELS)), space)


def test_what_is_written_is_read_again_and_shows_the_colours(tmp_path):
    write_mask(tmp_path / "new" / "a.png", LABELS, SPACE)
    path = tmp_path / "new" / "a.png"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.png"]
    ids = read_mask(path)
    assert ids.tolist() == [[7, 8, 26, 0], [26, 26, 8, 7]]
    np.testing.assert_array_equal(SPACE.encode(ids), LABELS)
    with Image.open(path) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), SPACE.colorize(LABELS))


def test_without_palette_the_file_is_grey(tmp_path):
    write_mask(tmp_path / "a.png", LABELS.astype(np.int64), SPACE, palette=False)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "L"
    np.testing.assert_array_equal(SPACE.encode(read_mask(tmp_path / "a.png")), LABELS)


def test_ids_above_255_are_written_with_16_bits(tmp_path):
    space = LabelSpace(classes=(LabelClass(name="far", color=(1, 2, 3), ids=(1000,)),))
    write_mask(tmp_path / "a.png", np.array([[0, IGNORE]]), space)
    ids = read_mask(tmp_path / "a.png")
    assert ids.tolist() == [[1000, 255]]
    assert space.encode(ids).tolist() == [[0, IGNORE]]


def test_ignored_pixels_need_an_id_of_their_own(tmp_path):
    space = LabelSpace(classes=(LabelClass(name="sky", color=(1, 2, 3), ids=(255,)),))
    write_mask(tmp_path / "a.png", np.array([[0]]), space)
    with pytest.raises(UserError, match="no id for ignored pixels; add one to ignore_ids"):
        write_mask(tmp_path / "b.png", np.array([[0, IGNORE]]), space)
    assert not (tmp_path / "b.png").exists()


def test_a_mask_of_large_regions_is_small(tmp_path):
    labels = np.zeros((512, 1024), np.uint8)
    labels[256:] = 1
    write_mask(tmp_path / "a.png", labels, SPACE)
    assert (tmp_path / "a.png").stat().st_size < 4000


def test_black_stays_ignored_where_other_colours_are_ignored_too(tmp_path):
    pixels = np.array([[(0, 0, 0), (9, 9, 9), (128, 64, 128)]], np.uint8)
    path = save(tmp_path / "a.png", pixels)
    assert read_color_mask(path, SPACE, [(9, 9, 9)]).tolist() == [[IGNORE, IGNORE, 0]]
    with pytest.raises(UserError, match=r"\(9, 9, 9\) \(1 px\).* add them to ignore_colors in data\.yaml"):
        read_color_mask(path, SPACE)
