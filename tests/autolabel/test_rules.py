import numpy as np
import pytest

from polyscale.autolabel.rules import Candidates, apply_thresholds, rules_of
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
