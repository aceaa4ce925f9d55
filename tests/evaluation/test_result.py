"""What an evaluation leaves: JSON and CSV in fractions, tables in percent, nothing half-written."""

import csv
import json

import pytest

from polyscale.errors import UserError
from polyscale.evaluation import evaluate

SIZES = [(23, 31), (20, 40)]


@pytest.fixture(scope="module")
def hierarchical(fakes):
    return evaluate(fakes.network("hierarchical"), fakes.Toys(SIZES), (0.5, 1, 2), compare=True)


@pytest.fixture(scope="module")
def single(fakes):
    return evaluate(fakes.network("single"), fakes.Toys(SIZES))


def test_json_reads_back(hierarchical, tmp_path):
    files = hierarchical.write(tmp_path / "new" / "folder")
    assert [file.name for file in files] == ["per_class.csv", "attention.csv", "scores.json"]
    assert sorted(file.name for file in files[0].parent.iterdir()) == ["attention.csv", "per_class.csv", "scores.json"]
    text = files[2].read_text(encoding="utf-8")
    read = json.loads(text)
    assert read == json.loads(json.dumps(hierarchical.to_json()))
    assert read["rows"]["fused"]["mean_iou"] == hierarchical.scores.mean_iou
    assert 0 < read["rows"]["fused"]["mean_iou"] < 1
    assert set(read["attention"]["per_class"]["road"]) == {"2", "1", "0.5"}
    assert read["attention"]["per_class"]["train"] is None
    assert "fractions" in read["unit"]
    # A confusion matrix has a line for each class.
    row = ", ".join(map(str, hierarchical.scores.confusion[0]))
    assert f"[ {row} ]" in text


def test_csv_has_fractions_and_empty_cells(hierarchical, tmp_path):
    hierarchical.write(tmp_path)
    with (tmp_path / "per_class.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7 * 4
    assert list(rows[0]) == ["row", "class", "pixels", "iou", "precision", "recall", "f1", "boundary_iou"]
    assert (rows[0]["row"], rows[0]["class"]) == ("fused", "road")
    assert float(rows[0]["iou"]) == hierarchical.scores.iou[0]
    train = next(row for row in rows if row["class"] == "train" and row["row"] == "fused")
    assert (train["pixels"], train["recall"]) == ("0", "")
    with (tmp_path / "attention.csv").open(newline="", encoding="utf-8") as file:
        attention = list(csv.DictReader(file))
    assert list(attention[0]) == ["class", "scale 2", "scale 1", "scale 0.5"]
    assert [row["class"] for row in attention] == ["road", "sky", "pole", "train", "all pixels"]
    assert float(attention[0]["scale 2"]) == hierarchical.attention.per_class[0][0]
    assert attention[3]["scale 1"] == ""


def test_an_older_table_of_attention_does_not_stay(hierarchical, single, tmp_path):
    hierarchical.write(tmp_path)
    single.write(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["per_class.csv", "scores.json"]


def test_a_folder_that_cannot_be_written(single, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="cannot write"):
        single.write(tmp_path / "taken")


def test_tables_are_in_percent(hierarchical):
    scores, classes, comparison, attention = hierarchical.tables()
    assert scores.columns[1] == "mIoU"
    assert [row[0] for row in scores.rows] == list(hierarchical.rows)
    assert scores.rows[0][1] == f"{100 * hierarchical.scores.mean_iou:.2f}"
    assert scores.rows[1][-1] == "-"
    assert [row[0] for row in classes.rows] == ["road", "sky", "pole", "train"]
    assert classes.rows[3][1] == "0.00"
    assert classes.rows[0][2] == f"{100 * hierarchical.scores.iou[0]:.1f}"
    assert comparison.columns == ("class", *hierarchical.rows)
    assert attention.columns == ("class", "2x", "1x", "0.5x")
    assert attention.rows[3] == ("train", "-", "-", "-")
    assert sum(map(float, attention.rows[-1][1:])) == pytest.approx(100, abs=0.2)
    for table in (scores, classes, comparison, attention):
        assert "%" in table.title
        assert {len(row) for row in table.rows} == {len(table.columns)}


def test_one_row_needs_no_comparison(single):
    assert [table.title for table in single.tables()] == ["Scores (%)", "Classes (%)"]
