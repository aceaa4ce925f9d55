"""Drawn streets: the same arguments give the same exact pixels, and the two hard things are as hard as claimed."""

import itertools

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from polyscale.data.streets import STREETS, StreetsSource, coarse_labels, draw_scene, split_starts, walls, write_streets
from polyscale.data.streets.canvas import Canvas, Label
from polyscale.errors import UserError
from polyscale.labels import IGNORE, LabelSpace


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(seed=5, index=index) for index in range(20)]


def test_a_scene_depends_on_seed_and_index_only(scenes):
    draw_scene(9, 9, (70, 91))
    again = draw_scene(seed=5, index=3)
    np.testing.assert_array_equal(again.image, scenes[3].image)
    np.testing.assert_array_equal(again.labels, scenes[3].labels)
    for other in (draw_scene(5, 4), draw_scene(6, 3)):
        assert (other.labels != again.labels).mean() > 0.1


def test_every_pixel_has_one_of_nine_classes_and_all_classes_are_common(scenes):
    shares = np.zeros(9)
    present = np.zeros(9)
    for image, labels in scenes:
        assert image.shape == (256, 512, 3)
        assert labels.shape == (256, 512)
        assert image.dtype == labels.dtype == np.uint8
        counts = np.bincount(labels.ravel(), minlength=9)
        assert len(counts) == STREETS.num_classes == 9
        shares += counts / labels.size / len(scenes)
        present += counts > 0
    assert (present >= 16).all()
    assert 0.004 < shares[Label.POLE] < 0.02
    assert 0.002 < shares[Label.SIGN] < 0.012
    assert 0.004 < shares[Label.PERSON] < 0.03
    assert (shares[[Label.ROAD, Label.SIDEWALK, Label.BUILDING, Label.SKY]] > 0.08).all()


@pytest.mark.parametrize("size", [(64, 64), (65, 127), (131, 67), (255, 513), (391, 401)])
def test_any_size_from_64_is_drawn_whole(size):
    for index in range(3):
        image, labels = draw_scene(1, index, size)
        assert image.shape == (*size, 3)
        assert labels.shape == size
        assert labels.max() <= 8
        assert len(np.unique(labels)) >= 4


@pytest.mark.parametrize("size", [(63, 128), (128, 0), (64.5, 64), (64,), (64, 1_000_000)])
def test_a_bad_size_is_refused(size):
    with pytest.raises(UserError, match="from 64 to 16384"):
        draw_scene(0, 0, size)


def test_a_negative_seed_or_index_is_refused():
    with pytest.raises(UserError, match="seed -1"):
        draw_scene(-1, 0)
    with pytest.raises(UserError, match="index -2"):
        draw_scene(0, -2)


def _run_lengths(row):
    return [len(list(group)) for value, group in itertools.groupby(row.tolist()) if value]


def test_posts_are_one_to_three_pixels_wide(scenes):
    # Arms of lamps lie across, so only rows within upright stretches of seven pixels count.
    lengths = []
    for _, labels in scenes:
        upright = ndimage.binary_opening(labels == Label.POLE, structure=np.ones((7, 1)))
        lengths += [length for row in upright for length in _run_lengths(row)]
    counts = np.bincount(lengths)
    assert (counts[1:4] > 0.1 * len(lengths)).all()
    # Two posts side by side are as wide as both.
    assert counts[4:].sum() < 0.02 * len(lengths)


def test_some_signs_are_as_thin_as_posts(scenes):
    thin = 0
    for _, labels in scenes:
        regions, _ = ndimage.label(labels == Label.SIGN)
        thin += sum(min(s.stop - s.start for s in found) <= 3 for found in ndimage.find_objects(regions))
    assert thin >= 10


@pytest.fixture
def plain_walls(monkeypatch):
    """Lets scenes be drawn whose labels tell plain walls (2) from the parts of buildings that stand out (IGNORE)."""
    plain = []
    look, labels = walls.wall_look, Canvas.labels

    def remember(rng, sky):
        result = look(rng, sky)
        if result[0]:
            plain.append(result[1])
        return result

    def marked(canvas):
        is_plain = np.array([color in plain for color in canvas._colors])
        fine = labels(canvas)
        fine[(fine == Label.BUILDING) & ~is_plain[np.asarray(canvas._plane)]] = IGNORE
        plain.clear()
        return fine

    monkeypatch.setattr(walls, "wall_look", remember)
    monkeypatch.setattr(Canvas, "labels", marked)


def _windows(scenes, label, side):
    """Mean, standard deviation and fine contrast of one window of each scene that lies wholly in one class."""
    found = []
    for image, labels in scenes:
        rows, columns = labels.shape[0] // side, labels.shape[1] // side
        blocks = (labels == label)[: rows * side, : columns * side].reshape(rows, side, columns, side)
        for row, column in np.argwhere(blocks.all(axis=(1, 3)))[:1] * side:
            window = image[row : row + side, column : column + side].astype(float).mean(2)
            found.append((window.mean(), window.std(), np.abs(np.diff(window, axis=1)).mean()))
    return np.array(found)


def _overlap(first, second):
    """Chance that a value of the first exceeds one of the second: 0.5 where the two cannot be told apart."""
    return (first[:, None] > second[None, :]).mean()


def test_sky_and_plain_walls_look_the_same_up_close(plain_walls):
    scenes = [draw_scene(7, index) for index in range(100)]
    sky, wall = _windows(scenes, Label.SKY, 40), _windows(scenes, Label.BUILDING, 40)
    assert min(len(sky), len(wall)) > 50
    for feature in range(3):
        assert 0.38 < _overlap(sky[:, feature], wall[:, feature]) < 0.62


def test_road_and_sidewalk_look_the_same_up_close():
    scenes = [draw_scene(8, index) for index in range(100)]
    road, walk = _windows(scenes, Label.ROAD, 20), _windows(scenes, Label.SIDEWALK, 20)
    assert min(len(road), len(walk)) > 50
    assert 0.38 < _overlap(road[:, 0], walk[:, 0]) < 0.62


def test_walls_reach_the_top_and_sky_the_horizon(scenes):
    assert np.mean([(labels[0] == Label.BUILDING).mean() for _, labels in scenes]) > 0.15
    low = [(labels[95] == Label.SKY).mean() for _, labels in scenes]
    assert np.mean(low) > 0.1


def test_objects_stand_out_from_what_their_labels_say_is_behind():
    # Labels drawn elsewhere than the image would leave no edge at their border.
    inner, outer = [], []
    for index in range(10):
        image, labels = draw_scene(3, index)
        grey = image.astype(float).mean(2)
        step = np.abs(np.diff(grey, axis=1))
        across = (labels[:, 1:] == Label.CAR) != (labels[:, :-1] == Label.CAR)
        within = (labels[:, 1:] == Label.CAR) & (labels[:, :-1] == Label.CAR)
        inner.append(step[within])
        outer.append(step[across])
    assert np.concatenate(outer).mean() > 3 * np.concatenate(inner).mean()


def test_coarse_labels_agree_with_fine_ones_where_they_speak(scenes):
    for number, (_, fine) in enumerate(scenes):
        coarse = coarse_labels(fine, seed=number)
        spoken = coarse != IGNORE
        assert coarse.shape == fine.shape
        assert coarse.dtype == np.uint8
        assert 0.4 < spoken.mean() < 0.93
        assert (coarse == fine)[spoken].mean() > 0.97
        assert not (coarse == Label.POLE).any()


def test_coarse_labels_keep_clear_of_borders_and_ignore_what_was_ignored():
    fine = np.zeros((200, 300), np.uint8)
    fine[:, 150:] = 3
    fine[:40] = IGNORE
    coarse = coarse_labels(fine, seed=1)
    assert (coarse[:40] == IGNORE).all()
    assert (coarse[:, 149:151] == IGNORE).all()
    assert (coarse[60:, :140] == 0).all()
    assert (coarse[60:, 160:] == 3).all()


def test_coarse_labels_leave_a_hole_and_fill_the_island_in_it():
    rows, columns = np.mgrid[:256, :256]
    radius = np.hypot(rows - 128, columns - 128)
    fine = np.where(radius < 30, 2, np.where(radius < 80, 7, 2)).astype(np.uint8)
    coarse = coarse_labels(fine, seed=0, skip_fraction=0)
    assert coarse[128, 128] == 2
    assert coarse[128, 128 + 55] == 7
    assert coarse[5, 5] == 2
    assert (coarse == fine)[coarse != IGNORE].mean() > 0.99


def test_coarse_labels_are_deterministic_and_unsteady(scenes):
    fine = scenes[0].labels
    np.testing.assert_array_equal(coarse_labels(fine, seed=[1, 2]), coarse_labels(fine, seed=[1, 2]))
    assert (coarse_labels(fine, seed=1) != coarse_labels(fine, seed=2)).any()


@pytest.mark.parametrize("size", [(64, 64), (67, 131)])
def test_coarse_labels_of_odd_sizes(size):
    fine = draw_scene(0, 1, size).labels
    coarse = coarse_labels(fine)
    assert coarse.shape == size
    assert set(np.unique(coarse)) <= {*np.unique(fine).tolist(), IGNORE}


def test_coarse_labels_of_wholly_ignored_images():
    assert (coarse_labels(np.full((64, 80), IGNORE, np.uint8)) == IGNORE).all()


def test_source_reads_the_scenes_from_its_start():
    source = StreetsSource(seed=4, count=3, size=(64, 96), start=10)
    assert len(source) == len(source.names) == 3
    name, image, labels = source.read(2)
    assert name == source.names[2] == "street_0000012"
    np.testing.assert_array_equal(image, draw_scene(4, 12, (64, 96)).image)
    np.testing.assert_array_equal(labels, draw_scene(4, 12, (64, 96)).labels)
    for outside in (3, -1):
        with pytest.raises(IndexError):
            source.read(outside)
    with pytest.raises(UserError, match="0 or more"):
        StreetsSource(count=-1)


def test_splits_are_disjoint():
    sizes = {"train": 1_000_000, "val": 7, "test": 3}
    ranges = [range(start, start + sizes[name]) for name, start in split_starts(sizes).items()]
    for first, second in itertools.combinations(ranges, 2):
        assert first.stop <= second.start or second.stop <= first.start
    assert split_starts({"train": 5, "val": 7})["val"] == split_starts(sizes)["val"]


@pytest.mark.parametrize("sizes", [{"../up": 1}, {"": 1}, {"train": -1}, {"train": 1_000_001}])
def test_bad_splits_are_refused(sizes):
    with pytest.raises(UserError, match="split"):
        split_starts(sizes)


def test_written_streets_are_an_ordinary_data_set(tmp_path):
    folder = tmp_path / "streets"
    seen = []
    drawn = write_streets(
        folder, {"train": 3, "val": 2}, (64, 96), seed=1, coarse=True, progress=lambda *at: seen.append(at)
    )
    assert drawn == 5
    assert seen == [(number, 5) for number in range(1, 6)]
    assert LabelSpace.from_yaml(folder / "label_space.yaml") == STREETS
    files = {str(path.relative_to(folder)) for path in folder.rglob("*.png")}
    names = [f"train/street_000000{n}.png" for n in range(3)] + [f"val/street_100000{n}.png" for n in range(2)]
    assert files == {f"{kind}/{name}" for kind in ("images", "masks", "coarse") for name in names}
    scene = draw_scene(1, 1_000_001, (64, 96))
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "images/val/street_1000001.png")), scene.image)
    with Image.open(folder / "masks/val/street_1000001.png") as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.asarray(mask), scene.labels)
        np.testing.assert_array_equal(np.asarray(mask.convert("RGB")), STREETS.colorize(scene.labels))
    with Image.open(folder / "coarse/val/street_1000001.png") as coarse:
        np.testing.assert_array_equal(np.asarray(coarse), coarse_labels(scene.labels, seed=[1, 1_000_001]))


def test_a_second_call_draws_only_what_is_missing(tmp_path):
    arguments = {"split_sizes": {"train": 3}, "size": (64, 64)}
    write_streets(tmp_path, **arguments)
    lost = tmp_path / "masks/train/street_0000001.png"
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path != lost}
    content = lost.read_bytes()
    lost.unlink()
    assert write_streets(tmp_path, **arguments) == 1
    assert lost.read_bytes() == content
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path != lost} == before
    assert write_streets(tmp_path, **arguments) == 0


def test_an_interrupted_call_leaves_no_half_file_and_goes_on(tmp_path, monkeypatch):
    save = Image.Image.save
    calls = []

    def fail(picture, path, **options):
        calls.append(path)
        if len(calls) == 2:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        save(picture, path, **options)

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        write_streets(tmp_path, {"train": 3}, (64, 64))
    assert len(list(tmp_path.rglob("*.png"))) == 2  # an image and its mask
    monkeypatch.undo()
    assert write_streets(tmp_path, {"train": 3}, (64, 64)) == 2


@pytest.mark.parametrize(
    "change",
    [{"seed": 2}, {"size": (64, 65)}, {"split_sizes": {"train": 2}}, {"split_sizes": {"val": 1}}, {"coarse": True}],
)
def test_other_arguments_in_the_same_folder_are_refused(tmp_path, change):
    arguments = {"split_sizes": {"train": 1}, "size": (64, 64)}
    write_streets(tmp_path, **arguments)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="other arguments.*choose another"):
        write_streets(tmp_path, **{**arguments, **change})
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="new or empty folder"):
        write_streets(tmp_path, {"train": 1}, (64, 64))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_damaged_manifest_is_refused(tmp_path):
    (tmp_path / "streets.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        write_streets(tmp_path, {"train": 1}, (64, 64))


def test_bad_arguments_write_nothing(tmp_path):
    folder = tmp_path / "new"
    for arguments in ({"seed": -1}, {"size": (10, 10)}, {"split_sizes": {"a/b": 1}}):
        with pytest.raises(UserError):
            write_streets(folder, **{"split_sizes": {"train": 1}, **arguments})
    assert not folder.exists()
