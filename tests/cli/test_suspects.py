import csv
import json
import shutil

import numpy as np
import pytest

from polyscale.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one step on two drawn streets."""
    folder = tmp_path_factory.mktemp("suspects")
    assert main(["data", "draw", str(folder / "streets"), "--train", "2", "--val", "1", "--size", "64x96"]) == 0
    recipe = folder / "recipe.json.yaml"
    recipe.write_text(
        json.dumps(
            {
                "name": "suspects",
                "data": {"train": {"kind": "folder", "root": str(folder / "streets"), "split": "train"}},
                "model": {"backbone": {"name": "tiny"}, "multiscale": {"method": "single"}},
                "augment": {"crop": [32, 32]},
                "loss": {"main": "cross_entropy"},
                "training": {"epochs": 1, "epoch_length": 2, "batch_size": 2, "check_data": False},
            }
        )
    )
    assert main(["train", str(recipe), "--out", str(folder / "run")]) == 0
    return folder


def test_a_list_counts_and_a_page(run, capsys):
    out = run / "out"
    capsys.readouterr()
    assert main(["data", "suspects", str(run / "run"), str(run / "streets"), "--split", "val", "--out", str(out)]) == 0
    assert "the network was not trained on these images" in capsys.readouterr().err
    with (out / "suspects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    scores = [float(row["score"]) for row in rows]
    assert rows
    assert scores == sorted(scores, reverse=True)
    told = json.loads((out / "suspects.json").read_text())
    assert told["num_images"] == 1
    assert told["trained_on"] == 0
    assert np.sum(told["counts"]) == 64 * 96
    assert (out / "suspects.html").read_text().count("<article") == min(40, len(rows))


def test_images_of_the_training_are_told(run, capsys):
    arguments = ["data", "suspects", str(run / "run"), f"{run / 'streets'}:train", "--pictures", "0"]
    assert main([*arguments, "--out", str(run / "again")]) == 0
    assert "was trained on 2 of these 2 images" in capsys.readouterr().err


def test_without_the_run_nobody_knows(run, tmp_path, capsys):
    shutil.copy(run / "run" / "last.safetensors", tmp_path / "network.safetensors")
    arguments = ["data", "suspects", str(tmp_path / "network.safetensors"), f"{run / 'streets'}:val"]
    assert main([*arguments, "--pictures", "1", "--out", str(tmp_path / "out")]) == 0
    assert "it is not known whether" in capsys.readouterr().err
