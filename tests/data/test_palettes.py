import json

import numpy as np
import pytest
from PIL import Image

from polyscale.data import check_files, check_splits, open_data
from polyscale.data.masks import IndexMask
from polyscale.data.palettes import Palettes, colors_of, spread
from polyscale.errors import UserError
from polyscale.labels import LabelClass, LabelSpace

RED, BLUE, GREEN, WHITE = (255, 0, 0), (0, 0, 255), (0, 255, 0), (255, 255, 255)
SPACE = LabelSpace(
    name="aerial",
    classes=tuple(LabelClass(name=n, color=c) for n, c in (("house", RED), ("road", BLUE), ("tree", GREEN))),
    ignore_ids=(7,),
)


def write(root, name, ids, palette=None):
    for folder in ("images", "masks"):
        (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
    mask = Image.fromarray(np.asarray(ids, np.uint8))
    if palette is not None:
        mask.putpalette([channel for color in palette for channel in color])
    pixels = np.random.default_rng(len(name)).integers(0, 256, (mask.height, mask.width, 3), np.uint8)
    Image.fromarray(pixels).save(root / f"images/{name}.png")
    mask.save(root / f"masks/{name}.png")


@pytest.fixture
def root(tmp_path):
    SPACE.to_yaml(tmp_path / "label_space.yaml")
    return tmp_path


def reports(root):
    names = [entry.name for entry in sorted((root / "images").iterdir()) if entry.is_dir()] or [None]
    return check_splits({name or "all": open_data(root, name, lenient=True) for name in names})


def kinds(report):
    return [problem.kind for problem in report.problems if problem.is_error]


def test_masks_whose_palettes_number_the_colours_anew_are_not_usable(root):
    write(root, "a", [[0, 1, 2]], [RED, BLUE, GREEN])
    write(root, "bb", [[0, 1, 2]], [BLUE, RED, GREEN])
    report = reports(root)["all"]
    assert not report.usable
    assert kinds(report) == ["palette"]
    message = report.problems[0].message
    for part in ("masks/a.png", "masks/bb.png", "(255, 0, 0)", "(0, 0, 255)", "color_coded: true"):
        assert part in message
    with pytest.raises(UserError, match=r"masks of .* cannot be read by their ids: .*bb\.png and .*a\.png"):
        open_data(root)
    (root / "data.yaml").write_text("color_coded: true")
    assert reports(root)["all"].usable
    assert open_data(root).read(1).labels.tolist() == [[1, 0, 2]]


def test_splits_are_compared_with_each_other(root):
    write(root, "train/a", [[0, 1, 2]], [RED, BLUE, GREEN])
    write(root, "val/b", [[0, 1, 2]], [RED, GREEN, BLUE])
    found = reports(root)
    assert [kinds(found[name]) for name in ("train", "val")] == [[], ["palette"]]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(([[0, 1]], [RED, BLUE]), id="a shorter palette of what occurs"),
        pytest.param(([[0, 7]], [RED, BLUE, GREEN, RED, RED, RED, RED, WHITE]), id="an ignored id"),
        pytest.param(([[0, 0]], [RED, WHITE, WHITE]), id="colours that do not occur"),
        pytest.param(([[0, 1, 2]], None), id="grey"),
        pytest.param(([[0, 1, 2]], [(k, k, k) for k in range(3)]), id="grey as a palette"),
    ],
)
def test_what_does_not_count_may_differ(root, other):
    write(root, "a", [[0, 1, 2, 7]], [RED, BLUE, GREEN, RED, RED, RED, RED, BLUE])
    write(root, "bb", *other)
    assert reports(root)["all"].usable
    open_data(root)


def test_training_refuses_them_wherever_they_are_in_a_large_set(root, tmp_path):
    for position in range(30):
        write(root, f"{position:02}", [[0, 1, 2]], [RED, BLUE, GREEN])
    data = open_data(root)
    hidden = next(k for k in range(30) if k not in spread(range(30)))
    write(root, f"{hidden:02}", [[0, 1, 2]], [GREEN, BLUE, RED])
    open_data(root)  # a few masks are compared, and this is not among them
    for _ in range(2):  # also at the next start, where good files are remembered
        with pytest.raises(UserError, match=rf"{hidden:02}\.png and .*00\.png have different palettes"):
            check_files(data, cache_dir=tmp_path / "cache")
    write(root, f"{hidden:02}", [[0, 1, 2]], [RED, BLUE, GREEN])
    check_files(data, cache_dir=tmp_path / "cache")
    write(root, f"{hidden:02}", [[0, 1, 2]], [GREEN, BLUE, RED])
    with pytest.raises(UserError, match="have different palettes"):
        check_files(data, cache_dir=tmp_path / "cache")
    assert json.loads(next((tmp_path / "cache").iterdir()).read_text())


def test_colours_are_those_of_ids_that_occur():
    palette = np.array([RED, BLUE, GREEN], np.uint8)
    mask = IndexMask(np.array([[0, 2, 255]], np.uint8), palette)
    assert colors_of(mask) == {0: RED, 2: GREEN}
    assert colors_of(mask._replace(palette=None)) == {}
    assert colors_of(IndexMask(np.array([[1, 9]], np.uint8), palette), SPACE) == {1: BLUE}


def test_the_first_mask_of_an_id_is_named(tmp_path):
    palettes = Palettes()
    assert palettes.disagreement(tmp_path / "a", {0: RED}) is None
    assert palettes.disagreement(tmp_path / "b", {0: RED, 1: BLUE}) is None
    assert f"{tmp_path / 'c'} and {tmp_path / 'b'}" in palettes.disagreement(tmp_path / "c", {1: RED})
