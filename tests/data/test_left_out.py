import warnings

import numpy as np
import pytest
from PIL import Image

from polyscale.data import left_out as module
from polyscale.data.images import open_image, read_image
from polyscale.data.left_out import PartialImageWarning, left_out, stay_silent

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (9, 8, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch):
    monkeypatch.setattr(module, "_told", set())


def kind(path):
    with open_image(path) as image:
        part = left_out(image)
        pixels = np.asarray(image.convert("RGB"))
    return (None if part is None else part.kind), pixels


def save(path, pixels=RGB, frames=(), mode=None, **options):
    images = [Image.fromarray(frame) for frame in frames]
    more = {"save_all": True, "append_images": images} if images else {}
    Image.fromarray(pixels, mode).save(path, **more, **options)
    return path


def test_files_without_more_have_nothing_left_out(tmp_path):
    alpha = np.concatenate([RGB, RGB[..., :1]], axis=2)
    for suffix in ("tif", "png", "webp"):
        assert kind(save(tmp_path / f"a.{suffix}", alpha))[0] is None
    for suffix in ("tif", "png", "gif", "jpg", "bmp"):
        assert kind(save(tmp_path / f"b.{suffix}", RGB[..., 0]))[0] is None


def test_a_fourth_band_that_is_no_alpha_is_left_out(tmp_path):
    bands = np.concatenate([RGB, RGB[..., :1]], axis=2)
    path = save(tmp_path / "a.tif", bands, mode="RGBX")
    found, pixels = kind(path)
    assert found == "bands"
    np.testing.assert_array_equal(pixels, RGB)


@pytest.mark.parametrize(
    ("suffix", "wanted"), [("tif", "pages"), ("gif", "frames"), ("webp", "frames"), ("png", "frames")]
)
def test_pages_and_frames_are_left_out_and_the_first_is_read(tmp_path, suffix, wanted):
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"a.{suffix}", frames=[255 - RGB, RGB // 2], **options)
    found, pixels = kind(path)
    assert found == wanted
    if suffix != "gif":
        np.testing.assert_array_equal(pixels, RGB)


def test_small_copies_in_a_tiff_do_not_count(tmp_path):
    small = Image.fromarray(RGB[::2, ::2])
    small.encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(RGB).save(tmp_path / "a.tif", save_all=True, append_images=[small])
    with Image.open(tmp_path / "a.tif") as image:
        image.seek(1)
        assert image.tag_v2.get(254) == 1
    found, pixels = kind(tmp_path / "a.tif")
    assert found is None
    np.testing.assert_array_equal(pixels, RGB)


def test_one_warning_a_run_names_the_first_file(tmp_path):
    paths = [save(tmp_path / f"{k}.tif", frames=[RGB]) for k in range(3)]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for path in paths:
            read_image(path)
    (warning,) = seen
    assert warning.category is PartialImageWarning
    assert "0.tif has several pages, of which only the first is read" in str(warning.message)


def test_a_process_may_leave_it_to_another(tmp_path):
    stay_silent()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(save(tmp_path / "a.tif", frames=[RGB]))
