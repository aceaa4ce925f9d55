import numpy as np
import pytest
from PIL import Image

from polyscale.data import FolderConfig
from polyscale.data.bands import BandsConfig, as_rgb, measure_ranges, read_bands, read_values
from polyscale.errors import UserError
from polyscale.labels import LabelSpace

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:rasterio", "ignore::PendingDeprecationWarning:rasterio")
SPACE = LabelSpace.model_validate({"name": "s", "classes": [{"name": "a", "color": (0, 0, 0)}]})


def write(path, values, **options):
    """Values (H, W) or (H, W, B) as TIFF."""
    values = np.atleast_3d(values)
    height, width, count = values.shape
    shape = {"height": height, "width": width, "count": count}
    with rasterio.open(path, "w", driver="GTiff", dtype=values.dtype, **shape, **options) as file:
        file.write(np.moveaxis(values, 2, 0))
    return path


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_bands_lie_last_however_the_file_has_them(tmp_path, interleave):
    values = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
    path = write(tmp_path / "a.tif", values, interleave=interleave)
    np.testing.assert_array_equal(read_values(path), values)


def test_a_stated_range_becomes_0_to_255_and_other_values_are_clipped(tmp_path):
    values = np.array([[[0, 10], [1000, 20]], [[2000, 30], [65535, 5]]], np.uint16)
    path = write(tmp_path / "a.tif", values)
    bands = BandsConfig(channels=(2, 1), ranges=((10, 30), (0, 2000)))
    expected = [[[0, 0], [128, 128]], [[255, 255], [0, 255]]]
    np.testing.assert_array_equal(read_bands(path, bands), expected)


def test_two_images_are_stretched_alike(tmp_path):
    bands = BandsConfig(channels=(1,), ranges=((0, 1000),))
    dark, bright = np.full((2, 2), 100, np.uint16), np.full((2, 2), 900, np.uint16)
    found = [read_bands(write(tmp_path / f"{k}.tif", x), bands)[0, 0, 0] for k, x in enumerate((dark, bright))]
    assert found == [26, 230]


def test_a_fourth_channel_of_a_png_is_read(tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_bands(tmp_path / "a.png", BandsConfig(channels=(1, 2, 3, 4))), values)


def test_values_that_are_no_number_become_0(tmp_path):
    path = write(tmp_path / "a.tif", np.array([[np.nan, 1.0]], np.float32))
    assert read_bands(path, BandsConfig(channels=(1,), ranges=((0, 1),))).tolist() == [[[0], [255]]]


def test_what_is_wrong_is_told(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((2, 2), np.uint16))
    with pytest.raises(UserError, match="has 1 bands, and none of number 3"):
        read_bands(path, BandsConfig(channels=(1, 3)))
    (tmp_path / "b.tif").write_bytes(b"II*\0nothing")
    with pytest.raises(UserError, match="cannot be read as TIFF"):
        read_values(tmp_path / "b.tif")
    with pytest.raises(ValueError, match="low below high"):
        BandsConfig(channels=(1,), ranges=((5, 5),))
    with pytest.raises(ValueError, match="one for each"):
        BandsConfig(channels=(1, 2, 3), ranges=((0, 1), (0, 1)))


def test_ranges_are_of_all_images_together(tmp_path):
    paths = [write(tmp_path / f"{k}.tif", np.full((10, 10), value, np.uint16)) for k, value in enumerate((0, 50, 100))]
    assert measure_ranges(paths, (0, 100)) == [(0.0, 100.0)]
    assert measure_ranges(paths[1:], (0, 50)) == [(50.0, 75.0)]


def test_a_folder_of_multispectral_images(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    values = np.random.default_rng(0).integers(0, 4000, (6, 8, 5), dtype=np.uint16)
    write(tmp_path / "images" / "a.tif", values)
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(tmp_path / "masks" / "a.png")
    bands = BandsConfig(channels=(5, 1), ranges=((0, 4000),))
    data = FolderConfig(root=tmp_path, bands=bands).open(SPACE)
    assert data.num_channels == 2
    sample = data.read(0)
    np.testing.assert_array_equal(sample.image, np.rint(values[..., [4, 0]] * (255 / 4000)).astype(np.uint8))
    smaller = FolderConfig(root=tmp_path, bands=bands, long_edge=4).open(SPACE).read(0)
    assert smaller.image.shape == (3, 4, 2)
    assert FolderConfig(root=tmp_path).open(SPACE).num_channels == 3


def test_what_a_person_is_shown():
    image = np.arange(2 * 2 * 5, dtype=np.uint8).reshape(2, 2, 5)
    np.testing.assert_array_equal(as_rgb(image), image[..., :3])
    np.testing.assert_array_equal(as_rgb(image[..., :2])[..., 2], image[..., 0])
