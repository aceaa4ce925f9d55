"""Training by two CPU processes under torchrun: the same losses as one process with the doubled batch, and resume."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from polyscale.config import dump_yaml, read_yaml
from polyscale.data import open_data
from polyscale.evaluation import evaluate
from polyscale.labels import LabelClass, LabelSpace
from polyscale.models import load_checkpoint

pytestmark = pytest.mark.slow

SPACE = LabelSpace(name="two", classes=(LabelClass(name="a", color=(1, 2, 3)), LabelClass(name="b", color=(4, 5, 6))))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A folder of eight images whose ignored share differs from image to image, and a recipe that trains on it."""
    rng = np.random.default_rng(0)
    root = tmp_path / "data"
    for split, count in (("train", 8), ("val", 3)):
        for index in range(count):
            labels = rng.integers(0, 2, (32, 40)).repeat(1, 0).astype(np.uint8)
            labels[: 3 * index] = 255
            for kind, array in (("images", rng.integers(0, 256, (32, 40, 3), np.uint8)), ("masks", labels)):
                path = root / kind / split / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    SPACE.to_yaml(root / "label_space.yaml")
    values = {
        "data": {kind: {"kind": "folder", "root": str(root), "split": kind} for kind in ("train", "val")},
        "model": {
            "backbone": {"name": "tiny"},
            "decoder": {"kind": "light", "light_channels": 8, "dropout": 0.0},
            "multiscale": {"attention": {"channels": 4}},
        },
        "augment": {"crop": [24, 24]},
        "loss": {"main": "rmi"},
        "training": {
            "epochs": 2,
            "batch_size": 2,
            "num_workers": 0,
            "log_every": 1,
            "tracker": "none",
            "freeze_batchnorm": True,
            "optimizer": {"kind": "sgd", "lr": 1e-3},
        },
        "validation": {"scales": [0.5, 1]},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_yaml(values), encoding="utf-8")
    return path


def run(processes: int, recipe: Path, out: Path, *arguments: str) -> None:
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    )
    command = [sys.executable, *launcher, "-m", "polyscale", "train", str(recipe), *arguments, "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def lines(out: Path, key: str) -> list[dict[str, object]]:
    return [line for text in (out / "log.jsonl").read_text().splitlines() if key in (line := json.loads(text))]


def test_two_processes_equal_one_with_the_doubled_batch(recipe: Path, tmp_path: Path) -> None:
    run(2, recipe, tmp_path / "two")
    run(1, recipe, tmp_path / "one", "training.batch_size=4")
    two, one = lines(tmp_path / "two", "loss"), lines(tmp_path / "one", "loss")
    assert [line["step"] for line in two] == [line["step"] for line in one] == [1, 2, 3, 4]
    for a, b in zip(two, one, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    # Weights after the last step agree to rounding, and so do the scores of the same validation images.
    first, second = load_file(tmp_path / "two/last.safetensors"), load_file(tmp_path / "one/last.safetensors")
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-4, atol=1e-6)
    assert lines(tmp_path / "two", "validation")[-1]["validation"] == pytest.approx(
        lines(tmp_path / "one", "validation")[-1]["validation"], rel=1e-3
    )


def test_two_processes_train_on_a_mix_like_one(recipe: Path, tmp_path: Path) -> None:
    """Sources of different weight, and confidence, which decide how much each process has to say in a step."""
    auto = tmp_path / "auto"
    shutil.copytree(tmp_path / "data/images/train", auto / "images")
    shutil.copytree(tmp_path / "data/masks/train", auto / "masks")
    SPACE.to_yaml(auto / "label_space.yaml")
    (auto / "autolabel.json").write_text(
        '{"confidence_levels": [0, 0.25, 0.5, 1], "confidence_stride": 1, "settings": {"coarse_labels": null}}'
    )
    (auto / "confidence").mkdir()
    for number, path in enumerate(sorted((auto / "masks").iterdir())):
        levels = np.random.default_rng(number).integers(0, 4, (32, 40)).astype(np.uint8)
        Image.fromarray(levels).save(auto / "confidence" / path.name)
    values = read_yaml(recipe)
    second = {"data": str(auto), "weight": 0.5, "confidence_power": 2, "until_epoch": 1, "boost": {"a": 3}}
    sources = {"fine": {"data": values["data"]["train"]}, "auto": second}
    values["data"] = {"train": {"kind": "mix", "sources": sources}}
    values |= {"loss": {"main": "cross_entropy"}, "sampling": {"fraction": 0.5}}
    recipe.write_text(dump_yaml(values), encoding="utf-8")
    run(2, recipe, tmp_path / "two")
    run(1, recipe, tmp_path / "one", "training.batch_size=4")
    two, one = lines(tmp_path / "two", "loss"), lines(tmp_path / "one", "loss")
    assert [line["step"] for line in two] == [line["step"] for line in one] == list(range(1, 9))
    for a, b in zip(two, one, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)


def test_all_processes_validate_the_network_that_is_stored(recipe: Path, tmp_path: Path) -> None:
    """Batch-norm statistics differ between processes on CPUs, which cannot synchronise them."""
    out = tmp_path / "run"
    run(2, recipe, out, "training.freeze_batchnorm=false", "loss.main=cross_entropy", "training.ema_decay=0.5")
    network = load_checkpoint(out / "last.safetensors").model
    scores = evaluate(network, open_data(tmp_path / "data", "val"), (0.5, 1)).scores
    logged: Any = lines(out, "scores")[-1]["scores"]
    assert logged["confusion"] == scores.to_json()["confusion"]
