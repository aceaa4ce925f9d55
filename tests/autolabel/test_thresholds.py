import numpy as np
import pytest

from polyscale.autolabel.rules import Candidates
from polyscale.autolabel.settings import AutolabelConfig
from polyscale.autolabel.thresholds import choose_thresholds, histogram
from polyscale.labels import IGNORE


def test_the_chosen_threshold_keeps_the_share_that_was_asked_for(space):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (200, 300)).astype(np.uint8)
    # Road is as sure as roads are.
    confidence = np.where(labels == 0, 1 - 10.0 ** rng.uniform(-6, -2, labels.shape), rng.uniform(0.4, 1, labels.shape))
    confidence = confidence.astype(np.float32)
    counts = histogram(Candidates(labels, None), confidence, 3)
    assert counts.sum() == labels.size
    config = AutolabelConfig(keep=0.6, class_keep={"pole": 0.25}, class_thresholds={"sky": 0.7})
    chosen = choose_thresholds(counts, config, space)
    assert chosen["sky"] == 0.7
    for train_id, name, share in ((0, "road", 0.6), (2, "pole", 0.25)):
        kept = (confidence[labels == train_id] >= np.float32(chosen[name])).mean()
        assert kept == pytest.approx(share, abs=0.03)
    assert chosen["road"] > 0.999


def test_what_no_threshold_decides_is_not_counted(space):
    labels = np.array([[0, 1, IGNORE]], np.uint8)
    counts = histogram(Candidates(labels, np.array([[True, False, False]])), np.full((1, 3), 0.7, np.float32), 3)
    assert counts.sum(axis=1).tolist() == [0, 1, 0]
    chosen = choose_thresholds(counts, AutolabelConfig(keep=0.5, threshold=0.4), space)
    assert chosen["road"] == chosen["pole"] == 0.4  # classes that the teacher never says keep the plain threshold
