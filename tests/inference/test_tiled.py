import numpy as np
import pytest
from PIL import Image

from polyscale.data.items import DataError
from polyscale.errors import UserError
from polyscale.inference import tiled
from polyscale.inference.files import predict_files
from polyscale.tiles import Tiles, footprint

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning:rasterio")
TILES = Tiles(96, 64)


def read(path):
    with Image.open(path) as image:
        return np.array(image)


def test_files_are_those_of_the_whole_image(predictor, photo, tmp_path):
    Image.fromarray(photo(160, 224)).save(tmp_path / "a.png")
    steps = []
    for name, tiles in (("whole", Tiles(0, 0)), ("tiles", TILES)):
        done = predict_files(
            predictor,
            [tmp_path / "a.png"],
            tmp_path / name,
            (0.5, 1),
            tiles=tiles,
            tile_progress=lambda *step: steps.append(step),
        )
        assert [item.name for item in done.written] == ["a"]
    names = [
        sorted(path.relative_to(tmp_path / name).as_posix() for path in (tmp_path / name).rglob("*.*"))
        for name in ("whole", "tiles")
    ]
    assert names[0] == names[1]
    assert steps[-1][0] == steps[-1][1] == len(steps) > 4
    for name in ("labels/a.png", "confidence/a.png", "attention/a_0.5x.png", "attention/a_1x.png", "overlay/a.jpg"):
        whole, parts = read(tmp_path / "whole" / name), read(tmp_path / "tiles" / name)
        assert whole.shape == parts.shape
        assert np.abs(whole.astype(int) - parts).mean() < 0.5


def test_an_image_with_coordinates_gives_labels_with_them(predictor, photo, tmp_path):
    pixels, place = photo(160, 96), rasterio.transform.from_origin(500000, 5400000, 0.2, 0.2)
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=160, width=96, count=3, dtype="uint8", crs="EPSG:32632",
        transform=place,
    ) as file:  # fmt: skip
        file.write(np.moveaxis(pixels, 2, 0))
    (tmp_path / "out" / "labels").mkdir(parents=True)
    for tiles in (None, TILES):
        predict_files(predictor, [tmp_path / "a.tif"], tmp_path / "out", (1,), outputs=("labels",), tiles=tiles)
        with rasterio.open(tmp_path / "out" / "labels" / "a.tif") as file:
            assert (file.crs, file.transform) == (rasterio.CRS.from_epsg(32632), place)
            found, colors = file.read(1), file.colormap(1)
        expected = predictor.label_space.decode(predictor.predict(pixels, (1,)).labels)
        assert (found == expected).mean() > 0.999
        assert colors[7][:3] == (128, 64, 128)
    assert sorted(path.name for path in (tmp_path / "out" / "labels").iterdir()) == ["a.tif"]


def write_bands(path, bands, **how):
    with rasterio.open(
        path, "w", driver="GTiff", height=bands.shape[1], width=bands.shape[2], count=len(bands), dtype=bands.dtype,
        **how,
    ) as file:  # fmt: skip
        file.write(bands)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_bands_are_chosen(predictor, photo, tmp_path, dtype):
    pixels = photo(80, 90)
    bands = np.zeros((5, 80, 90), dtype=dtype)
    for band, channel in ((4, 0), (3, 1), (2, 2)):
        bands[band - 1] = pixels[..., channel].astype(dtype) * (256 if dtype == "uint16" else 1)
    write_bands(tmp_path / "a.tif", bands)
    predict_files(predictor, [tmp_path / "a.tif"], tmp_path / "out", (1,), outputs=("labels",), bands=(4, 3, 2))
    expected = predictor.predict(pixels, (1,)).labels
    found = predictor.label_space.encode(read(tmp_path / "out" / "labels" / "a.png"))
    assert (found == expected).mean() > 0.999


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_bands_that_are_not_there_are_told(predictor, photo, tmp_path):
    write_bands(tmp_path / "a.tif", np.zeros((4, 40, 40), dtype=np.uint8))
    Image.fromarray(photo(9, 9)).save(tmp_path / "b.png")
    summary = predict_files(predictor, [tmp_path], tmp_path / "out", (1,), bands=(5, 3, 2))
    assert summary.written == ()
    first, second = (failure.reason for failure in summary.failures)
    assert "a.tif has 4 bands, and none of number 5; choose three of 1 to 4" in first
    assert "b.png is no TIFF file" in second
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("how", [{"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}, {}])
def test_a_file_cut_in_its_middle_leaves_nothing(predictor, tmp_path, how):
    noise = np.random.default_rng(0).integers(0, 256, (3, 256, 256), dtype=np.uint8)
    write_bands(tmp_path / "a.tif", noise, **how)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: len(content) // 2])
    summary = predict_files(predictor, [tmp_path / "a.tif"], tmp_path / "out", (1,), tiles=TILES)
    (failure,) = summary.failures
    assert "a.tif" in failure.reason
    assert "\n" not in failure.reason
    assert not (tmp_path / "out").exists()


def test_a_run_that_fails_while_it_writes_leaves_the_old_files(predictor, photo, tmp_path, monkeypatch):
    Image.fromarray(photo(160, 224)).save(tmp_path / "a.png")
    predict_files(predictor, [tmp_path / "a.png"], tmp_path / "out", (1,), tiles=TILES)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    leftover = tmp_path / "out" / "labels" / ".a.png.0123456789ab.tmp.png"  # of a run that was killed
    leftover.write_bytes(b"half")
    add, rows = tiled.IndexPng.add, []

    def full_disk(self, indices):
        rows.append(len(indices))
        if len(rows) > 2:
            raise OSError(28, "No space left on device")
        add(self, indices)

    monkeypatch.setattr(tiled.IndexPng, "add", full_disk)
    with pytest.raises(UserError, match="No space left on device; free some space"):
        predict_files(predictor, [tmp_path / "a.png"], tmp_path / "out", (1,), tiles=TILES)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")} == before


def test_a_run_that_was_killed_is_no_hindrance(predictor, photo, tmp_path):
    Image.fromarray(photo(40, 50)).save(tmp_path / "a.png")
    leftover = tmp_path / "out" / "labels" / ".a.png.0123456789ab.tmp.png"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    predict_files(predictor, [tmp_path / "a.png"], tmp_path / "out", (1,), outputs=("labels",))
    assert [path.name for path in leftover.parent.iterdir()] == ["a.png"]


def test_what_does_not_fit_into_memory_is_cut_and_told(predictor, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(footprint, "_SMALL", 0)
    each = footprint.bytes_of_look(predictor.looker, (1.0,), False) / footprint._SIDE**2
    monkeypatch.setattr(footprint, "available_memory", lambda: int(280 * 360 * each))  # less than the look's and more
    Image.fromarray(photo(280, 360)).save(tmp_path / "a.png")
    lines = []
    predict_files(predictor, [tmp_path / "a.png"], tmp_path / "out", (1,), outputs=("labels",), told=lines.append)
    (line,) = lines
    assert "360 x 280 pixels at once would take about" in line
    assert "in tiles of" in line
    assert (tmp_path / "out" / "labels" / "a.png").exists()


def test_what_fits_is_seen_whole(predictor, monkeypatch):
    monkeypatch.setattr(footprint, "_SMALL", 0)
    monkeypatch.setattr(footprint, "available_memory", lambda: 2**34)
    assert footprint.choose_tiles(predictor.looker, (200, 300), (1.0,), False)[0] is None


def test_the_overlay_of_a_huge_image_is_reduced(predictor, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(tiled, "LARGEST_OVERLAY", 5000)
    Image.fromarray(photo(203, 151)).save(tmp_path / "a.png")
    predict_files(predictor, [tmp_path / "a.png"], tmp_path / "out", (1,), outputs=("overlay",), tiles=TILES)
    with Image.open(tmp_path / "out" / "overlay" / "a.jpg") as image:
        assert image.size == (151 // 3, 203 // 3)


def test_python_looks_in_tiles_too(predictor, photo):
    pixels = photo(160, 224)
    parts, whole = predictor.predict(pixels, (1,), tile=96, overlap=64), predictor.predict(pixels, (1,))
    assert (parts.labels == whole.labels).mean() > 0.999
    assert parts.probabilities is None
    assert predictor.predict(pixels, (1,), tile=224).probabilities is not None


def test_a_file_that_is_no_image_is_told_as_ever(predictor, tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0 and nothing that follows")
    summary = predict_files(predictor, [tmp_path / "a.tif"], tmp_path / "out", (1,))
    assert "a.tif" in summary.failures[0].reason
    assert issubclass(DataError, UserError)
