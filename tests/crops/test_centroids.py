from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyscale.crops.centroids import class_centroids, tile_centroids
from polyscale.data.items import Item, Sample, SegmentationData
from polyscale.data.open import open_data
from polyscale.errors import UserError
from polyscale.labels import IGNORE, LabelClass, LabelSpace

SPACE = LabelSpace(name="three", classes=tuple(LabelClass(name=n, color=(i, i, i)) for i, n in enumerate("abc")))


class MaskFolder(SegmentationData):
    """The least that is a data set: PNG masks of train ids, all of whose images are black; counts what is read."""

    def __init__(self, folder: Path, label_space=SPACE):
        self.label_space = label_space
        self.items = [Item(path.stem, path, path) for path in sorted(folder.glob("*.png"))]
        self.num_read = 0

    def read(self, index):
        self.num_read += 1
        mask = self.items[index].mask
        try:
            labels = None if mask is None else np.asarray(Image.open(mask))
        except OSError:
            raise UserError(f"cannot read {mask}") from None
        return Sample(self.items[index].name, np.zeros((4, 4, 3), np.uint8), labels)


def write_masks(folder, masks):
    folder.mkdir(parents=True, exist_ok=True)
    for number, mask in enumerate(masks):
        Image.fromarray(mask).save(folder / f"{number}.png")
    return MaskFolder(folder)


def some_masks(count=3, size=(20, 30)):
    rng = np.random.default_rng(0)
    return [rng.choice(np.array([0, 1, 2, IGNORE], np.uint8), size=size) for _ in range(count)]


def same(left, right):
    return left.names == right.names and all(map(np.array_equal, left[1:], right[1:]))


def by_brute_force(labels, tile):
    rows = []
    for top in range(0, labels.shape[0], tile):
        for left in range(0, labels.shape[1], tile):
            part = labels[top : top + tile, left : left + tile]
            for train_id in sorted(set(part.ravel().tolist()) - {IGNORE}):
                pixels = np.argwhere(part == train_id)
                distances = np.linalg.norm(pixels - pixels.mean(axis=0), axis=1)
                y, x = pixels[distances.argmin()]
                rows.append([train_id, top + y, left + x, len(pixels)])
    return rows


@pytest.mark.parametrize("tile", [1, 4, 7, 10, 64])
def test_tiles_equal_brute_force_partial_tiles_included(tile):
    labels = np.random.default_rng(tile).choice(np.array([0, 3, 18, IGNORE], np.uint8), size=(13, 22))
    assert tile_centroids(labels, tile).tolist() == by_brute_force(labels, tile)


def test_an_image_smaller_than_the_default_tile_gives_its_classes():
    labels = np.full((360, 480), 2, np.uint8)
    labels[:100] = 0
    labels[350:, 470:] = IGNORE
    assert tile_centroids(labels, 1024)[:, [0, 3]].tolist() == [[0, 48000], [2, 260 * 480 - 100]]


def test_the_representative_of_a_ring_lies_on_the_ring():
    ys, xs = np.mgrid[:41, :41] - 20
    radius = np.hypot(ys, xs)
    labels = ((radius > 12) & (radius < 16)).astype(np.uint8)
    rows = tile_centroids(labels, 1024)
    assert rows[:, 0].tolist() == [0, 1]
    for train_id, y, x, _ in rows.tolist():
        assert labels[y, x] == train_id


def test_a_wholly_ignored_mask_has_no_rows():
    assert tile_centroids(np.full((5, 5), IGNORE, np.uint8), 4).shape == (0, 4)


@pytest.mark.parametrize("workers", [1, 3])
def test_rows_are_in_the_order_of_items_however_many_workers(tmp_path, workers):
    masks = some_masks(8)
    data = write_masks(tmp_path, masks)
    seen = []
    found = class_centroids(data, tile=16, workers=workers, progress=lambda done, total: seen.append((done, total)))
    expected = [[i, *row] for i, mask in enumerate(masks) for row in by_brute_force(mask, 16)]
    assert np.column_stack(found[1:3] + found[3:]).tolist() == expected
    assert found.names == ("a", "b", "c")
    assert seen == [(n, 8) for n in range(1, 9)]
    assert data.num_read == 8


def test_images_without_a_mask_are_left_out(tmp_path):
    data = write_masks(tmp_path, some_masks(3))
    data.items[1] = data.items[1]._replace(mask=None)
    assert set(class_centroids(data, cache_dir=tmp_path / "cache").items.tolist()) == {0, 2}


def test_the_cache_spares_reading_and_survives_touching_and_moving(tmp_path):
    data = write_masks(tmp_path / "here", some_masks())
    first = class_centroids(data, 16, tmp_path / "cache")
    assert data.num_read == 3
    second = class_centroids(data, 16, tmp_path / "cache", progress=lambda done, total: pytest.fail("read again"))
    assert same(first, second)
    assert data.num_read == 3
    (tmp_path / "here").rename(tmp_path / "there")
    moved = MaskFolder(tmp_path / "there")
    for item in moved.items:
        item.mask.touch()
    assert same(first, class_centroids(moved, 16, tmp_path / "cache", workers=2))
    assert moved.num_read == 0
    assert len(list((tmp_path / "cache").iterdir())) == 1, "one whole file, no temporary one"


def test_what_changes_the_result_changes_the_cache(tmp_path):
    masks = some_masks()
    data = write_masks(tmp_path / "data", masks)
    cache = tmp_path / "cache"
    class_centroids(data, 16, cache)
    assert not same(class_centroids(data, 8, cache), class_centroids(data, 16, cache))
    masks[1][3, 4] = (masks[1][3, 4] + 1) % 3  # one pixel
    changed = write_masks(tmp_path / "data", masks)
    found = class_centroids(changed, 16, cache)
    assert changed.num_read == 3
    assert same(found, class_centroids(changed, 16))
    recoloured = LabelSpace(
        name="three", classes=tuple(LabelClass(name=n, color=(9, i, i)) for i, n in enumerate("abc"))
    )
    other = MaskFolder(tmp_path / "data", recoloured)  # colour-coded masks would read differently
    class_centroids(other, 16, cache)
    assert other.num_read == 3
    reordered = MaskFolder(tmp_path / "data")
    reordered.items.reverse()
    class_centroids(reordered, 16, cache)
    assert reordered.num_read == 3


def test_a_damaged_cache_is_computed_again_and_mended(tmp_path):
    data = write_masks(tmp_path / "data", some_masks(2, (8, 8)))
    first = class_centroids(data, 16, tmp_path / "cache")
    (path,) = (tmp_path / "cache").iterdir()
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [b"", b"\x80\x04N.", whole[: len(whole) // 2], whole[:-1]]
    places = rng.choice(len(whole), 60, replace=False).tolist()
    damaged += [whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :] for place in places]
    for content in damaged:
        path.write_bytes(content)
        assert same(first, class_centroids(data, 16, tmp_path / "cache"))
    path.write_bytes(b"")
    class_centroids(data, 16, tmp_path / "cache")
    before = data.num_read
    class_centroids(data, 16, tmp_path / "cache")
    assert data.num_read == before


@pytest.mark.parametrize(
    "table", [np.zeros((1, 4), np.int64), np.full((1, 5), 9), np.full((1, 5), -1), np.zeros((2, 5)), np.array([{}])]
)
def test_a_cache_of_other_content_is_not_believed(tmp_path, table):
    data = write_masks(tmp_path / "data", some_masks(2, (8, 8)))
    first = class_centroids(data, 16, tmp_path / "cache")
    (path,) = (tmp_path / "cache").iterdir()
    with path.open("wb") as file:
        np.savez(file, table=table)
    assert same(first, class_centroids(data, 16, tmp_path / "cache"))


def test_an_unreadable_mask_is_named_and_stops_the_work(tmp_path):
    data = write_masks(tmp_path / "data", some_masks(40, (4, 4)))
    data.items[0].mask.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"0\.png"):
        class_centroids(data, 16, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    data.items[1].mask.unlink()
    with pytest.raises(UserError, match=r"\.png"):
        class_centroids(data, 16, tmp_path / "cache")


def test_drawn_masks_are_computed_each_time(tmp_path):
    masks = some_masks()
    data = write_masks(tmp_path / "data", masks)
    expected = class_centroids(data, 16)
    drawn = MaskFolder(tmp_path / "data")
    drawn.items = [item._replace(mask=Path("drawn") / item.name) for item in drawn.items]
    drawn.read = lambda index: Sample(str(index), np.zeros((4, 4, 3), np.uint8), masks[index])
    assert same(expected, class_centroids(drawn, 16, tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


def test_of_files_only_the_masks_are_read(tmp_path):
    write_masks(tmp_path / "masks", some_masks())
    write_masks(tmp_path / "images", some_masks())
    SPACE.to_yaml(tmp_path / "label_space.yaml")
    before = class_centroids(open_data(tmp_path), tile=16)
    for path in (tmp_path / "images").iterdir():
        path.write_bytes(b"no picture")
    assert len(before.items) > 0
    assert same(class_centroids(open_data(tmp_path), tile=16), before)
