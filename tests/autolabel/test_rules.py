import numpy as np
import pytest

from polyscale.autolabel.rules import Candidates, apply_thresholds, choose_thresholds, histogram, rules_of
from polyscale.autolabel.settings import AutolabelConfig
from polyscale.labels import IGNORE

R, S, P, X = 0, 1, 2, IGNORE
TEACHER = np.array([[R, S, P, R, S, P]], np.uint8)
COARSE = np.array([[R, R, X, X, S, R]], np.uint8)


@pytest.mark.parametrize(
    ("settings", "labels", "certain"),
    [
        ({"coarse": "keep"}, [R, R, P, R, S, R], [1, 1, 0, 0, 1, 1]),
        ({"coarse": "gaps"}, [X, X, P, R, X, X], [0, 0, 0, 0, 0, 0]),
        ({"coarse": "veto"}, [R, X, P, R, S, X], [0, 0, 0, 0, 0, 0]),
        ({"coarse": "agree"}, [R, X, X, X, S, X], [0, 0, 0, 0, 0, 0]),
        ({"coarse": "only"}, [R, R, X, X, S, R], [1, 1, 0, 0, 1, 1]),
        # As released: the teacher labels, but pole comes from the coarse label alone.
        ({"coarse": "keep", "class_coarse": {"pole": "only"}}, [R, R, X, R, S, R], [1, 1, 0, 0, 1, 1]),
        ({"coarse": "veto", "class_coarse": {"sky": "keep"}}, [R, X, P, R, S, X], [0, 0, 0, 0, 1, 0]),
        # Where the coarse label says a class that is dropped, the teacher's other class would be wrong.
        ({"coarse": "keep", "drop": ("road",)}, [X, X, P, X, S, X], [0, 0, 0, 0, 1, 0]),
    ],
)
def test_coarse_labels_constrain_as_the_mode_says(space, settings, labels, certain):
    found = rules_of(AutolabelConfig(**settings), space).candidates(TEACHER, COARSE)
    assert found.labels.tolist() == [labels]
    assert found.certain.astype(int).tolist() == [certain]


def test_the_frame_is_never_labelled(space):
    frame = np.array([[0, 1, 1, 0, 1, 1]], bool)
    found = rules_of(AutolabelConfig(), space, frame).candidates(TEACHER, COARSE)
    assert found.labels.tolist() == [[X, R, P, X, S, R]]
    assert not found.certain[0, 0]
    assert rules_of(AutolabelConfig(), space, frame).candidates(TEACHER, None).labels.tolist() == [[X, S, P, X, S, P]]


def test_a_pixel_is_kept_from_its_class_threshold_up_and_where_it_is_certain():
    candidates = Candidates(np.array([[R, R, S, S, X]], np.uint8), np.array([[0, 1, 0, 0, 0]], bool))
    confidence = np.array([[0.5, 0.1, 0.5, 0.8, 1.0]], np.float32)
    thresholds = np.zeros(256, np.float32)
    thresholds[[R, S]] = 0.5, 0.8
    assert apply_thresholds(candidates, confidence, thresholds).tolist() == [[R, R, X, S, X]]
    assert apply_thresholds(candidates, confidence, thresholds, 2).tolist() == [[R, R, X, X, X]]


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
