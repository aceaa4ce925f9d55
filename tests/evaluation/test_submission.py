"""Our scores and the files of a submission, beside the official evaluator of Cityscapes."""

import math

import numpy as np
import pytest
import torch

from polyscale.data import open_data
from polyscale.data.known_spaces import known_space
from polyscale.data.streets.cityscapes import write_like_cityscapes
from polyscale.errors import UserError
from polyscale.evaluation.instances import InstanceCounts
from polyscale.evaluation.submission import Submission
from polyscale.labels import IGNORE
from polyscale.metrics import SegmentationScores

SPACE = known_space("cityscapes")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cityscapes") / "data"
    write_like_cityscapes(folder, {"val": 3}, (96, 192), seed=2)
    return folder


def predicted(labels, rng):
    """The truth with a fifth of the pixels wrong, and something where nothing is scored."""
    wrong = (rng.random(labels.shape) < 0.2) | (labels == IGNORE)
    return np.where(wrong, rng.integers(0, 19, labels.shape), labels).astype(np.int64)


@pytest.fixture
def official(monkeypatch):
    module = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # NumPy 2.4 has no such name any more
    for name, value in (("predictionPath", None), ("predictionWalk", None), ("quiet", True), ("JSONOutput", False)):
        monkeypatch.setattr(module.args, name, value)
    return module


def test_the_official_evaluator_gives_our_scores(root, tmp_path, official):
    data = open_data(root, "val")
    rng = np.random.default_rng(0)
    scores = SegmentationScores(SPACE, boundary=False, calibration=False)
    submission = Submission(tmp_path / "out", data)
    counts = InstanceCounts.of(data)
    for index, item in enumerate(data.items):
        labels = data.read(index).labels
        classes = torch.from_numpy(predicted(labels, rng))
        scores.update(classes, torch.from_numpy(labels))
        submission.add(item.name, classes)
        counts.add(item.name, classes)
    ours = scores.compute()
    objects = counts.compute(scores.state()["confusion"], torch.device("cpu"))
    official.args.predictionPath = str(tmp_path / "out")
    truths = sorted(str(path) for path in root.glob("gtFine/val/*/*_gtFine_labelIds.png"))
    found = [official.getPrediction(official.args, path) for path in truths]
    theirs = official.evaluateImgLists(found, truths, official.args)

    for name, value in zip(ours.classes, ours.iou, strict=True):
        expected = theirs["classScores"][name]
        assert (value is None and math.isnan(expected)) or value == pytest.approx(expected, abs=1e-6), name
    assert ours.mean_iou == pytest.approx(theirs["averageScoreClasses"], abs=1e-6)
    assert sum(value is not None for value in objects.classes.values()) > 2
    for mine, name in ((objects.classes, "classInstScores"), (objects.categories, "categoryInstScores")):
        for title, value in mine.items():
            assert (math.nan if value is None else value) == pytest.approx(theirs[name][title], abs=1e-6, nan_ok=True)
    assert objects.mean_classes == pytest.approx(theirs["averageScoreInstClasses"], abs=1e-6)
    assert objects.mean_categories == pytest.approx(theirs["averageScoreInstCategories"], abs=1e-6)
    grouped = categories(np.array(ours.confusion, dtype=float), official)
    for name, value in grouped.items():
        assert value == pytest.approx(theirs["categoryScores"][name], abs=1e-6), name
    assert np.mean(list(grouped.values())) == pytest.approx(theirs["averageScoreCategories"], abs=1e-6)


def categories(confusion, official):
    """IoU of each category from the counts of classes: confusions within a category are none."""
    members = {}
    for label in official.labels:
        if label.name in SPACE.names:
            members.setdefault(label.category, []).append(SPACE.names.index(label.name))
    found = {}
    for name, rows in members.items():
        right = confusion[np.ix_(rows, rows)].sum()
        found[name] = right / (confusion[rows].sum() + confusion[:, rows].sum() - right)
    return found


def test_files_hold_label_ids_under_the_names_that_the_server_looks_for(root, tmp_path):
    from PIL import Image

    data = open_data(root, "val")
    submission = Submission(tmp_path / "out", data)
    submission.add(data.items[0].name, torch.arange(19).reshape(1, 19))
    (path,) = (tmp_path / "out").iterdir()
    assert path.name == "frankfurt_000000_000019_pred.png"
    image = Image.open(path)
    assert image.mode == "L"
    assert np.asarray(image)[0].tolist() == [item.ids[0] for item in SPACE.classes]


def test_other_classes_names_and_folders_with_files_are_refused(root, tmp_path):
    from polyscale.data import StreetsConfig

    streets = open_data(StreetsConfig(count=1, size=(64, 64)))
    with pytest.raises(UserError, match="has its 19 classes, and the data those of 'streets'"):
        Submission(tmp_path / "a", streets)
    streets.label_space = SPACE
    with pytest.raises(UserError, match="'street_.*' is not named as Cityscapes names images"):
        Submission(tmp_path / "a", streets)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    with pytest.raises(UserError, match="is not empty"):
        Submission(tmp_path / "full", open_data(root, "val"))
    doubled = open_data(root, "val")
    doubled.items = (doubled.items[0], doubled.items[0]._replace(name="again/frankfurt_000000_000019"))
    with pytest.raises(UserError, match="two images of the data have one name"):
        Submission(tmp_path / "b", doubled)


def test_instances_count_only_where_there_are_instance_ids(root, tmp_path):
    from polyscale.data.cityscapes import CityscapesConfig

    write_like_cityscapes(tmp_path / "extra", {"train_extra": 1}, (96, 192), seed=2)
    for labels, there in (("auto", False), ("coarse", True)):
        data = CityscapesConfig(root=tmp_path / "extra", split="train_extra", labels=labels).open()
        assert (InstanceCounts.of(data) is not None) == there
    assert InstanceCounts.of(CityscapesConfig(root=root, split="val", long_edge=96).open()) is None
    counts = InstanceCounts.of(open_data(root, "val"))
    with pytest.raises(UserError, match="is 192 x 96 pixels, its image 3 x 2; unpack the zip"):
        counts.add(open_data(root, "val").items[0].name, torch.zeros(2, 3, dtype=torch.long))
