"""Counts against pixel-by-pixel Python, the curve's ends, thresholds for a precision, and what does not fit."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from polyscale.autolabel.audit import audit, count_labels
from polyscale.autolabel.audit_files import audit_tables, threshold_option, usable_thresholds, write_audit
from polyscale.autolabel.settings import FORMAT
from polyscale.data import open_data
from polyscale.errors import UserError
from polyscale.labels import IGNORE, LabelClass, LabelSpace

SPACE = LabelSpace(
    name="three",
    classes=tuple(LabelClass(name=n, color=(9 * k, 9, 9), ids=(k + 4,)) for k, n in enumerate(("road", "car", "pole"))),
)
LEVELS = [0.0, 0.5, 0.75, 0.9, 1.0]
SIZE = (13, 18)


def write(root, kind, name, array):
    path = root / kind / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def folders(tmp_path):
    """A truth of four images, and auto-labels of three of them and one more; the truth as arrays, and all levels."""
    rng = np.random.default_rng(0)
    truth, auto = tmp_path / "truth", tmp_path / "auto"
    arrays = {}
    for number in range(4):
        name = f"a/{number}"
        true = rng.choice([0, 0, 0, 1, 2, IGNORE], SIZE).astype(np.uint8)
        candidates = np.where(rng.random(SIZE) < 0.3, rng.integers(0, 2, SIZE), true).astype(np.uint8)
        candidates[rng.random(SIZE) < 0.1] = IGNORE
        levels = rng.integers(0, 5, SIZE).astype(np.uint8)
        levels[candidates == IGNORE] = 0
        masks = np.where(levels >= 2, candidates, IGNORE).astype(np.uint8)
        write(truth, "images", name, rng.integers(0, 256, (*SIZE, 3), np.uint8))
        write(truth, "masks", name, SPACE.decode(true))
        if number:
            for kind, labels in (("masks", masks), ("candidates", candidates)):
                write(auto, kind, name, SPACE.decode(labels))
            write(auto, "confidence", name, levels)
            arrays[name] = (true, candidates, levels, masks)
    SPACE.to_yaml(truth / "label_space.yaml")
    SPACE.to_yaml(auto / "label_space.yaml")
    describe(auto)
    return truth, auto, arrays


def describe(auto, **changes):
    values = {
        "format": FORMAT,
        "teacher": {"fingerprint": "0123"},
        "settings": {"coarse_labels": None},
        "thresholds": dict.fromkeys(SPACE.names, 0.75),
        "confidence_levels": LEVELS,
        "confidence_stride": 1,
        **changes,
    }
    (auto / "autolabel.json").write_text(json.dumps(values))
    images = auto.parent / "truth" / "images"
    (auto / "data.yaml").write_text(
        f"kind: folder\nroot: .\nimage: {images}/{{name}}\nmask: masks/{{name}}\nsplit_file: images.txt\n"
    )
    (auto / "images.txt").write_text("a/1\na/2\na/3\n")


def pixels(arrays, threshold):
    """(true, label or None) of each pixel with a truth; ``threshold`` None is the stored mask."""
    for true, candidates, levels, masks in arrays.values():
        for y, x in np.ndindex(SIZE):
            if true[y, x] == IGNORE:
                continue
            if threshold is None:
                label = masks[y, x]
            else:
                label = candidates[y, x] if LEVELS[levels[y, x]] >= threshold else IGNORE
            yield int(true[y, x]), None if label == IGNORE else int(label)


@pytest.mark.parametrize("threshold", [None, 0.0, 0.5, 0.75, 0.9])
def test_every_number_is_that_of_counting_pixel_by_pixel(folders, threshold):
    truth, auto, arrays = folders
    found = audit(auto, open_data(truth), workers=2)
    assert found.thresholds == (0.0, 0.5, 0.75, 0.9)
    seen = list(pixels(arrays, threshold))
    *classes, everything = found.at(threshold)
    for number, quality in enumerate(classes):
        kept_as = sum(label == number for _, label in seen)
        right = sum(true == label == number for true, label in seen)
        true = sum(true == number for true, _ in seen)
        kept = sum(true == number and label is not None for true, label in seen)
        assert quality == (SPACE.names[number], kept_as, right, true, kept)
        assert quality.precision == (right / kept_as if kept_as else None)
        assert quality.coverage == kept / true
        assert quality.recall == right / true
    assert everything.true == len(seen)
    assert everything.right == sum(true == label for true, label in seen)
    assert everything.kept == everything.kept_as == sum(label is not None for _, label in seen)


def test_each_class_may_have_its_own_threshold(folders):
    truth, auto, arrays = folders
    found = audit(auto, open_data(truth))
    thresholds = {"road": 0.9, "car": 0.0, "pole": 1.0}
    *classes, everything = found.at_each(thresholds)
    alone = {name: found.at(t)[k] for k, (name, t) in enumerate(thresholds.items()) if t < 1}
    for quality in classes[:2]:
        assert (quality.kept_as, quality.right) == alone[quality.name][1:3], "by its own threshold alone"
    given = [levels == len(LEVELS) - 1 for _, _, levels, _ in arrays.values()]
    seen = zip(arrays.values(), given, strict=True)
    poles = sum(((true != IGNORE) & (labels == 2) & last).sum() for (true, labels, _, _), last in seen)
    assert classes[2].kept_as == poles, "at 1 only what was given stays"
    assert everything.kept == sum(quality.kept_as for quality in classes) == sum(quality.kept for quality in classes)


def test_images_are_matched_by_file_and_the_worst_comes_first(folders):
    truth, auto, arrays = folders
    found = audit(auto, open_data(truth))
    assert len(found.images) == 3
    assert found.num_without_truth == 0
    for image in found.images:
        true, _, levels, masks = arrays[image.name]
        wrong = (masks != IGNORE) & (true != IGNORE) & (masks != true)
        assert image.wrong == wrong.sum()
        assert image.severity == pytest.approx(sum(LEVELS[level] for level in levels[wrong]))
    severities = [image.severity for image in found.images]
    assert severities == sorted(severities, reverse=True)


def test_thresholds_are_the_lowest_that_reach_the_precision(folders):
    truth, auto, _ = folders
    found = audit(auto, open_data(truth))
    for precision in (0.5, 0.7, 0.8, 0.85, 0.9, 1.0):
        for place, (name, threshold) in enumerate(found.wanted(precision).items()):
            reached = [t for t in found.thresholds if (found.at(t)[place].precision or 0) >= precision]
            assert threshold == (min(reached) if reached else None), name
    assert found.wanted(1.0)["road"] is None
    usable = usable_thresholds(found, 1.0)
    assert usable["road"] == 1.0
    assert usable["pole"] == 0.0, "pole is never given where it is not"
    assert threshold_option({"road": 0.5, "traffic light": 0.95}) == "road=0.5,traffic light=0.95"


def test_without_confidence_maps_there_are_the_stored_labels_only(folders):
    truth, auto, _ = folders
    whole = audit(auto, open_data(truth))
    describe(auto, confidence_levels=None, confidence_stride=None)
    found = audit(auto, open_data(truth))
    assert found.at() == whole.at()
    assert found.thresholds == ()
    assert found.counts is None
    assert all(image.severity == image.wrong for image in found.images)
    assert [table.title for table in audit_tables(found, 0.9)][1:] == ["Most frequent mistakes"]


def test_files_hold_every_count_and_the_curve(folders, tmp_path):
    truth, auto, _ = folders
    found = audit(auto, open_data(truth))
    paths = write_audit(found, tmp_path / "out", 0.8)
    values = json.loads(paths[0].read_text())
    assert values["counts"]["table"] == found.counts.tolist()
    assert values["thresholds"] == found.wanted(0.8)
    assert values["num_images"] == 3
    with paths[1].open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * 4
    last = found.at(0.9)[-1]
    assert (rows[-1]["class"], int(rows[-1]["right"]), float(rows[-1]["precision"])) == (
        "(all)",
        last.right,
        last.precision,
    )
    true, label, number = found.confusions(1)[0]
    assert found.stored[SPACE.names.index(true), SPACE.names.index(label)] == number
    assert number == max(found.stored[a, b] for a in range(3) for b in range(3) if a != b)


def test_images_without_truth_are_counted_and_none_in_common_is_an_error(folders):
    truth, auto, _ = folders
    data = open_data(truth)
    part = open_data(truth)
    part.items = data.items[:2]
    found = audit(auto, part)
    assert (len(found.images), found.num_without_truth) == (1, 2)
    part.items = data.items[:1]
    with pytest.raises(UserError, match=r"no auto-labelled image of .* \(a/1, a/2, …\) is in the truth \(a/0\)"):
        audit(auto, part)


def test_other_classes_and_sizes_are_refused(folders):
    truth, auto, _ = folders
    write(truth, "masks", "a/2", SPACE.decode(np.zeros((13, 17), np.uint8)))
    write(truth, "images", "a/2", np.zeros((13, 17, 3), np.uint8))
    with pytest.raises(UserError, match="18 x 13 pixels"):
        audit(auto, open_data(truth))
    text = (truth / "label_space.yaml").read_text().replace("car", "bus")
    (truth / "label_space.yaml").write_text(text)
    with pytest.raises(UserError, match=r"auto-labels \(label space 'three': road, car, pole\) and truth .* different"):
        audit(auto, open_data(truth))


def test_a_level_beyond_the_classes_is_counted_where_it_belongs():
    rng = np.random.default_rng(3)
    truth, labels, levels = (rng.integers(0, n, (20, 30)).astype(np.uint8) for n in (3, 3, 4))
    table = count_labels(truth, labels, 3, levels, 4)
    assert table.shape == (3, 4, 4)
    assert table.sum() == 600
    assert table[1, 2, 3] == ((truth == 1) & (labels == 2) & (levels == 3)).sum()
