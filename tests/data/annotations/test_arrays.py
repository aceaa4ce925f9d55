import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from polyscale.data.annotations.arrays import ArrayData, ParquetData, read_array
from polyscale.errors import UserError
from polyscale.labels import IGNORE, LabelClass, LabelSpace

SPACE = LabelSpace(classes=tuple(LabelClass(name=n, color=(k, k, k)) for k, n in enumerate(("road", "sky"))))
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8)
IDS = RNG.choice([0, 1, 255], (4, 5)).astype(np.uint8)
LABELS = np.where(IDS == 255, IGNORE, IDS)


def save(path, array):
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".npy":
            np.save(path, array)
        case ".npz":
            np.savez_compressed(path, mask=array)
        case ".mat":
            savemat(path, {"labels": array, "note": "text"})


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat"])
@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float64])
def test_arrays_become_labels(tmp_path, suffix, kind):
    save(tmp_path / f"masks/x/a{suffix}", IDS.astype(kind))
    (tmp_path / "images/x").mkdir(parents=True)
    Image.fromarray(PIXELS).save(tmp_path / "images/x/a.png")
    save(tmp_path / f"masks/b{suffix}", IDS.astype(kind))
    save(tmp_path / "images/b.npy", PIXELS)
    data = ArrayData(tmp_path, SPACE)
    assert [item.name for item in data.items] == ["b", "x/a"]
    for index in range(2):
        sample = data.read(index)
        np.testing.assert_array_equal(sample.image, PIXELS)
        np.testing.assert_array_equal(sample.labels, LABELS)


def test_arrays_that_do_not_fit_are_told(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match="needs the folders images and masks"):
        ArrayData(tmp_path, SPACE)
    Image.fromarray(PIXELS).save(tmp_path / "images/a.png")
    (tmp_path / "masks").mkdir()
    with pytest.raises(UserError, match="1 of 1 images in .* have no mask: a"):
        ArrayData(tmp_path, SPACE)
    for array, message in (
        (IDS[:3], r"its mask is \(5, 3\) pixels, its image \(5, 4\)"),
        (IDS + 0.5, "label ids must be whole numbers"),
        (np.full((4, 5), 9), r"ids outside the label space 'custom': 9 \(20 px\)"),
        (np.zeros((4, 5, 7)), "is not"),
    ):
        save(tmp_path / "masks/a.npy", array)
        with pytest.raises(UserError, match=message):
            ArrayData(tmp_path, SPACE).read(0)


def test_files_of_objects_several_arrays_or_nothing_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", first=IDS, second=IDS)
    (tmp_path / "c.npy").write_bytes(b"no array")
    (tmp_path / "d.npz").write_bytes(b"PK no archive")
    (tmp_path / "e.mat").write_bytes(b"MATLAB 5.0 no")
    (tmp_path / "f.npy").write_bytes(b"")
    for name, message in (
        ("a.npy", "holds no array that can be read"),
        ("b.npz", r"holds 2 arrays of numbers \(first, second\); keep the mask alone"),
        ("c.npy", "holds no array that can be read"),
        ("d.npz", "holds no array that can be read"),
        ("e.mat", "holds no array that can be read"),
        ("f.npy", "holds no array that can be read"),
    ):
        with pytest.raises(UserError, match=rf"{name} {message}") as caught:
            read_array(tmp_path / name)
        assert "\n" not in str(caught.value)


def encoded(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, format="PNG")
    return file.getvalue()


def table(path, columns, **options):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path, **options)


def test_rows_of_parquet_files_become_samples(tmp_path):
    image, mask = ({"bytes": encoded(array), "path": "a.png"} for array in (PIXELS, IDS))
    table(tmp_path / "data/train-0.parquet", {"image": [image] * 3, "label": [mask] * 3}, row_group_size=2)
    table(tmp_path / "data/train-1.parquet", {"image": [encoded(PIXELS)], "label": [IDS.tolist()]})
    data = ParquetData(tmp_path, SPACE)
    assert len(data) == 4
    assert data.items[0].name == "data/train-0-000000"
    for index in (0, 2, 3, 1):
        sample = data.read(index)
        np.testing.assert_array_equal(sample.image, PIXELS)
        np.testing.assert_array_equal(sample.labels, LABELS)
    one = ParquetData(tmp_path / "data/train-1.parquet", SPACE, ("image", "label"))
    assert [item.name for item in one.items] == ["train-1-000000"]


def test_palette_images_keep_their_colours_and_palette_masks_their_ids(tmp_path):
    picture = Image.fromarray(IDS % 2)
    picture.putpalette([10, 20, 30, 40, 50, 60])
    file = io.BytesIO()
    picture.save(file, format="PNG")
    table(tmp_path / "a.parquet", {"image": [file.getvalue()], "mask": [file.getvalue()]})
    sample = ParquetData(tmp_path, SPACE).read(0)
    np.testing.assert_array_equal(sample.labels, IDS % 2)
    np.testing.assert_array_equal(sample.image, np.array([(10, 20, 30), (40, 50, 60)], np.uint8)[IDS % 2])


def test_tables_that_do_not_fit_are_told(tmp_path):
    table(tmp_path / "a.parquet", {"photo": [b""], "classes": [b""]})
    with pytest.raises(UserError, match="has the columns photo, classes; say which .* --columns IMAGE,MASK"):
        ParquetData(tmp_path, SPACE)
    data = ParquetData(tmp_path, SPACE, ("photo", "classes"))
    with pytest.raises(UserError, match="row 0 of group 0 is not an image that can be read"):
        data.read(0)
    table(tmp_path / "a.parquet", {"image": [{"bytes": None, "path": "x.png"}], "label": [b""]})
    with pytest.raises(UserError, match="holds no image bytes"):
        ParquetData(tmp_path, SPACE).read(0)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(UserError, match=r"a\.parquet is no parquet file that can be read"):
        ParquetData(tmp_path, SPACE)
    with pytest.raises(UserError, match="there are no parquet files"):
        (tmp_path / "empty").mkdir()
        ParquetData(tmp_path / "empty", SPACE)


def test_a_table_that_is_damaged_inside_is_told(tmp_path):
    table(tmp_path / "a.parquet", {"image": [encoded(PIXELS)], "label": [IDS.tolist()]})
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[4:40] = b"\xff" * 36  # the first page; the list of columns at the end is sound
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.parquet cannot be read"):
        ParquetData(tmp_path, SPACE).read(0)


def test_more_rows_than_a_table_has_bytes_are_refused_before_they_are_listed(tmp_path, monkeypatch):
    from pyarrow import parquet

    table(tmp_path / "a.parquet", {"image": [b""], "label": [b""]})
    claims = parquet.ParquetFile(tmp_path / "a.parquet")

    group = SimpleNamespace(num_rows=2**40)
    metadata = SimpleNamespace(row_group=lambda _: group)
    claim = SimpleNamespace(schema_arrow=claims.schema_arrow, num_row_groups=1, metadata=metadata)
    monkeypatch.setattr(parquet, "ParquetFile", lambda _: claim)
    with pytest.raises(UserError, match=r"a\.parquet is damaged: it cannot hold 1099511627776 rows"):
        ParquetData(tmp_path, SPACE)
