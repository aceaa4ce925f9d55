import json
import os
import signal
import subprocess
import sys
import time

import pytest

from polyscale.cli import main
from polyscale.config import dump_yaml

RECIPE = {
    "name": "tiny",
    "data": {
        "train": {"kind": "streets", "count": 4, "size": [64, 64]},
        "val": {"kind": "streets", "split": "val", "count": 1, "size": [64, 64]},
    },
    "model": {
        "backbone": {"name": "tiny"},
        "decoder": {"kind": "light", "light_channels": 8},
        "multiscale": {"attention": {"channels": 4}},
    },
    "augment": {"crop": [32, 32]},
    "loss": {"main": "cross_entropy"},
    "training": {"epochs": 2, "batch_size": 2, "num_workers": 0, "log_every": 1, "tracker": "none"},
    "validation": {"scales": [1]},
}


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_yaml(RECIPE))
    return str(path)


def losses(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line["loss"]["total"] for line in lines if "loss" in line]


def test_files_and_keys_make_a_run_in_runs(recipe, tmp_path, capsys):
    more = tmp_path / "more.yaml"
    more.write_text("training: {epochs: 9}\nname: other\n")
    assert main(["train", recipe, str(more), "training.epochs=1", "validation.every=1"]) == 0
    captured = capsys.readouterr()
    folder = tmp_path / "runs" / "other"
    assert captured.out.endswith("runs/other/best.safetensors\n")
    assert "After epoch 1: mIoU" in captured.out
    assert "vegetation" in captured.out
    assert "trained 2 steps" in captured.err
    assert {"best.safetensors", "last.safetensors", "config.yaml"} <= {path.name for path in folder.iterdir()}
    assert len(losses(folder)) == 2


def test_a_run_is_not_overwritten_but_continued(recipe, tmp_path, capsys):
    assert main(["train", recipe, "--out", "run"]) == 0
    before = losses(tmp_path / "run")
    capsys.readouterr()
    assert main(["train", recipe, "--out", "run"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["train", "--resume", "--out", "run"]) == 0
    assert "continuing after step 4 of 4" in capsys.readouterr().err
    assert losses(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.decoder.kin=ocr"], "unknown key 'model.decoder.kin' (did you mean 'kind'?); allowed here: kind"),
        (["training.epochs=none"], "training.epochs"),
        (["model.backbone.name=resnet5000"], "resnet5000"),
        (["data.train={kind: folder, root: nowhere}"], "nowhere"),
        (["more.yaml"], "no such file: more.yaml"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(recipe, tmp_path, capsys, arguments, message):
    assert main(["train", recipe, *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.slow
def test_a_signal_saves_and_the_run_goes_on_to_the_same_losses(recipe, tmp_path):
    command = [sys.executable, "-m", "polyscale", "train", recipe, "training.epochs=30", "validation.every=30"]
    subprocess.run([*command, "--out", "whole"], check=True, capture_output=True)
    process = subprocess.Popen([*command, "--out", "parts"], stderr=subprocess.PIPE, text=True)
    log = tmp_path / "parts" / "log.jsonl"
    deadline = time.monotonic() + 300
    while not (log.exists() and log.stat().st_size > 1000):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "continue with --resume" in shown
    done = len(losses(tmp_path / "parts"))
    assert 0 < done < 60
    assert main(["train", "--resume", "--out", "parts"]) == 0
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_progress_does_not_show_what_has_ended(capsys, monkeypatch):
    """Counting pixels had seemed to go on until the first steps were logged."""
    from polyscale.cli.train import TrainingDisplay

    opened, closed = [], []

    class Bar:
        def __init__(self, what):
            self.what = what
            opened.append(what)

        def update(self, done, total, note=""): ...

        def close(self):
            closed.append(self.what)

    monkeypatch.setattr("polyscale.cli.display.open_bar", lambda what, *_: Bar(what))
    display = TrainingDisplay()
    display.working("counting pixels", 1, 2)
    assert closed == []
    display.working("counting pixels", 2, 2)
    assert closed == ["counting pixels"]
    display.started(0, 100, 8)
    assert opened == ["counting pixels", "training"]
