import json

import pytest
import torch

from polyscale.errors import UserError
from polyscale.evaluation.attention import AttentionTable
from polyscale.evaluation.result import Evaluation
from polyscale.labels import LabelSpace
from polyscale.metrics import Scores
from polyscale.report import PageData, class_results, comparison, render_page

CLASSES = ("road", "pole", "train")
SPACE = LabelSpace.model_validate({"classes": [{"name": name, "color": (1, 2, k)} for k, name in enumerate(CLASSES)]})


@pytest.fixture
def evaluation():
    """An evaluation's JSON as it comes back from its file; nobody is a train."""

    def scores(wrong, **more):
        return Scores.from_counts(
            CLASSES, torch.tensor([[60 - wrong, wrong, 0], [wrong, 40 - wrong, 0], [0, 0, 0]]), **more
        )

    calibration = torch.tensor([[50, 50], [20, 45], [0, 0]])
    rows = {
        "fused": scores(1, calibration=calibration),
        "scale 0.5": scores(8),
        "scale 1": scores(4),
        "average of probabilities": scores(2),
    }
    attention = AttentionTable(CLASSES, (1.0, 0.5), ((0.3, 0.7), (0.9, 0.1), None), (0.5, 0.5))
    result = Evaluation(rows, attention, {"method": "hierarchical"})
    return json.loads(json.dumps(result.to_json()))


def test_the_networks_own_row_comes_last_and_stands_out(evaluation):
    table = comparison(evaluation, "a note", {"scale 1": "as it is"})
    assert [row.name for row in table.rows] == [
        "0.5x alone",
        "1x alone",
        "Average of probabilities",
        "Hierarchical attention",
    ]
    assert [row.main for row in table.rows] == [False, False, False, True]
    assert table.rows[1].note == "as it is"
    assert table.rows[-1].scores["pixel_accuracy"] == 0.98
    # Calibration was measured for one row of four, boundaries for none: columns of dashes say nothing.
    assert [metric.key for metric in table.metrics] == ["mean_iou", "pixel_accuracy"]


def test_a_single_row_keeps_all_that_was_measured(evaluation):
    evaluation["rows"] = {"fused": evaluation["rows"]["fused"]}
    keys = [metric.key for metric in comparison(evaluation).metrics]
    assert keys == ["mean_iou", "pixel_accuracy", "expected_calibration_error"]


def test_results_of_the_classes(evaluation):
    road, pole, train = class_results(evaluation, SPACE)
    assert list(road.scores) == ["0.5x alone", "1x alone", "Average of probabilities", "Hierarchical attention"]
    assert road.scores["Hierarchical attention"] == pytest.approx(59 / 61)
    assert (road.color, road.pixel_fraction) == ((1, 2, 0), 0.6)
    assert pole.attention == {1.0: 0.9, 0.5: 0.1}
    assert train.attention == {}
    assert set(train.scores.values()) == {None}
    (some, *_) = class_results(evaluation, SPACE, ["fused", "scale 1"])
    assert list(some.scores) == ["Hierarchical attention", "1x alone"]


def test_without_attention(evaluation):
    evaluation["attention"] = None
    assert class_results(evaluation, SPACE)[0].attention == {}


def test_a_page_of_an_evaluation(evaluation):
    page = render_page(PageData("Scores", comparison=comparison(evaluation), classes=class_results(evaluation, SPACE)))
    assert "98.0" in page
    assert "90.0" in page


@pytest.mark.parametrize("content", [{}, {"rows": {}}, {"rows": {"scale 1": {}}}, {"rows": []}])
def test_other_json_is_refused(content):
    with pytest.raises(UserError, match="not an evaluation"):
        comparison(content)


def test_a_row_or_class_that_is_not_there(evaluation):
    with pytest.raises(UserError, match="'scale 4'"):
        class_results(evaluation, SPACE, ["scale 4"])
    other = LabelSpace.model_validate({"classes": [{"name": "tree", "color": (0, 0, 0)}]})
    with pytest.raises(UserError, match="'tree'"):
        class_results(evaluation, other)
