import csv
import json
import subprocess
import sys

import pytest
import torch

from polyscale.cli import main
from polyscale.data.streets import STREETS


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "streets"
    assert main(["data", "draw", str(folder), "--train", "1", "--val", "2", "--size", "64x64"]) == 0
    return folder


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of the smallest network, untrained."""
    from polyscale.models import ModelConfig, build_model, save_checkpoint

    torch.manual_seed(0)
    config = ModelConfig.model_validate({"backbone": {"name": "tiny"}, "decoder": {"kind": "light"}})
    path = tmp_path / "run" / "model.safetensors"
    save_checkpoint(path, build_model(config, STREETS), STREETS, {"epoch": 7})
    return path


def test_scores_are_printed_and_written_beside_the_checkpoint(checkpoint, streets, capsys):
    assert main(["evaluate", str(checkpoint), str(streets), "--scales", "0.5,1", "--compare", "--device", "cpu"]) == 0
    captured = capsys.readouterr()
    folder = checkpoint.parent / "evaluation" / "model-streets-val"
    result = json.loads((folder / "scores.json").read_text())
    assert result["metadata"]["num_images"] == 2
    assert result["metadata"]["split"] == "val"
    assert result["metadata"]["scales"] == [0.5, 1.0]
    assert result["metadata"]["checkpoint_info"] == {"epoch": 7}
    with (folder / "per_class.csv").open() as file:
        rows = {row["row"] for row in csv.DictReader(file)}
    assert {"fused", "scale 0.5", "scale 1", "average of probabilities"} <= rows
    for row in rows | set(STREETS.names):
        assert row in captured.out
    assert str(folder / "scores.json") in captured.err


def test_adaptive_looking_is_scored_as_predicted(checkpoint, streets, tmp_path, capsys):
    scores = {}
    for name, options in {"all": [], "coarse": ["--scales", "0.5,1"], "adaptive": ["--adaptive", "1e-6"]}.items():
        out = tmp_path / name
        assert main(["evaluate", str(checkpoint), str(streets), "--out", str(out), "--device", "cpu", *options]) == 0
        scores[name] = json.loads((out / "scores.json").read_text())
    assert scores["adaptive"]["metadata"]["adaptive"] == 1e-6
    assert scores["adaptive"]["rows"]["fused"] == scores["coarse"]["rows"]["fused"] != scores["all"]["rows"]["fused"]
    assert main(["evaluate", str(checkpoint), str(streets), "--adaptive", "0.7", "--compare"]) == 2
    assert "needs every scale everywhere" in capsys.readouterr().err


def test_a_split_can_be_named_in_two_ways_and_the_folder_chosen(checkpoint, streets, tmp_path):
    results = []
    for number, data in enumerate(([f"{streets}:train"], [str(streets), "--split", "train"])):
        out = tmp_path / str(number)
        assert main(["evaluate", str(checkpoint), *data, "--scales", "1", "--out", str(out), "--device", "cpu"]) == 0
        results.append(json.loads((out / "scores.json").read_text()))
    for result in results:
        assert result["metadata"]["split"] == "train"
        assert result["metadata"]["num_images"] == 1
        result["metadata"].pop("seconds")
    assert results[0] == results[1]
    assert not (checkpoint.parent / "evaluation").exists()


def test_another_label_space_is_refused_in_one_line(checkpoint, streets, tmp_path, capsys):
    text = (streets / "label_space.yaml").read_text().replace("vegetation", "trees")
    (tmp_path / "label_space.yaml").write_text(text)
    (tmp_path / "images").symlink_to(streets / "images" / "val")
    (tmp_path / "masks").symlink_to(streets / "masks" / "val")
    assert main(["evaluate", str(checkpoint), str(tmp_path), "--device", "cpu"]) == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith(
        "error: label spaces 'streets' of the network and 'streets' of the data"
    )
    assert captured.out == ""
    assert not (checkpoint.parent / "evaluation").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{checkpoint}", "{streets}", "--split", "vla"], "'vla'"),
        (["{streets}/label_space.yaml", "{streets}:val"], "name the .safetensors file that training wrote"),
        (["{checkpoint}", "{streets}:val", "--device", "gpu"], "unknown device 'gpu'"),
        (["{checkpoint}", "{streets}:val", "--precision", "int3"], "--precision"),
    ],
)
def test_bad_input_is_one_line(checkpoint, streets, capsys, arguments, message):
    filled = [argument.format(checkpoint=checkpoint, streets=streets) for argument in arguments]
    assert main(["evaluate", *filled]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_a_folder_that_cannot_be_made_is_told_before_the_network_is_loaded(
    checkpoint, streets, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("polyscale.models.load_checkpoint", None)
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "scores"):
        assert main(["evaluate", str(checkpoint), f"{streets}:val", "--out", str(out)]) == 2
        assert "file is a file; choose a folder" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_scores_that_cannot_be_written_are_printed(checkpoint, streets, tmp_path, capsys):
    (tmp_path / "scores.json").mkdir()
    arguments = ["--scales", "1", "--device", "cpu", "--out", str(tmp_path)]
    assert main(["evaluate", str(checkpoint), f"{streets}:val", *arguments]) == 2
    captured = capsys.readouterr()
    assert "cannot write" in captured.err
    assert "Scores (%)" in captured.out


@pytest.mark.slow
def test_two_processes_print_once_and_give_the_same_scores(checkpoint, streets, tmp_path):
    results = []
    launchers = ([], ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"])
    for number, launcher in enumerate(launchers):
        out = tmp_path / str(number)
        arguments = ["evaluate", str(checkpoint), str(streets), "--compare", "--device", "cpu", "--out", str(out)]
        command = [sys.executable, "-m", *launcher, "polyscale", *arguments]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert shown.count("Scores (%)") == 1
        results.append(json.loads((out / "scores.json").read_text()))
    assert [result["metadata"].pop("processes") for result in results] == [1, 2]
    for result in results:
        result["metadata"].pop("seconds")
    assert results[0] == results[1]


def test_a_submission_to_cityscapes_is_written_beside_the_scores(tmp_path, capsys):
    from polyscale.data.known_spaces import known_space
    from polyscale.models import ModelConfig, build_model, save_checkpoint

    data = tmp_path / "cityscapes"
    draw = ["data", "draw", str(data), "--like", "cityscapes", "--train", "0", "--val", "2", "--size", "64x128"]
    assert main(draw) == 0
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"backbone": {"name": "tiny"}, "decoder": {"kind": "light"}})
    space = known_space("cityscapes")
    save_checkpoint(tmp_path / "run/model.safetensors", build_model(config, space), space, {})
    command = ["evaluate", str(tmp_path / "run/model.safetensors"), str(data), "--scales", "1", "--device", "cpu"]
    for number, options in enumerate(([], ["--flip"])):
        out = tmp_path / f"submission{number}"
        assert main([*command, *options, "--cityscapes-submission", str(out)]) == 0
        assert sorted(path.name for path in out.iterdir()) == [
            "frankfurt_000000_000019_pred.png",
            "lindau_000000_000019_pred.png",
        ]
    assert "Instance-weighted IoU" in capsys.readouterr().out
    (scores,) = tmp_path.glob("run/**/scores.json")
    instances = json.loads(scores.read_text())["instances"]
    assert sum(instances["objects"].values()) > 0
    assert 0 <= instances["mean_classes"] < 1
    for path in data.glob("gtFine/val/lindau/*_instanceIds.png"):
        path.unlink()
    assert main(command) == 0
    assert json.loads(scores.read_text())["instances"] is None  # of a part of the images it would mean nothing
    assert main([*command, "--cityscapes-submission", str(tmp_path / "submission0")]) == 2
    assert "is not empty" in capsys.readouterr().err
