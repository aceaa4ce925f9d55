"""A small labelled folder and a recipe that trains on it in seconds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from polyscale.config import dump_yaml, validate
from polyscale.labels import LabelClass, LabelSpace
from polyscale.training import ExperimentConfig, train

SPACE = LabelSpace(
    name="squares", classes=tuple(LabelClass(name=n, color=(80 * i, 99, 200)) for i, n in enumerate("abc"))
)


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain folder: squares of two classes on a third, the class told by the brightness."""
    root = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("val", 3)):
        for index in range(count):
            labels = np.zeros((40, 56), np.uint8)
            for label in (1, 2):
                y, x = rng.integers(0, 24, 2)
                labels[y : y + 14, x : x + 18] = label
            labels[:2] = 255
            image = (labels.clip(0, 2)[..., None] * 90 + rng.integers(0, 40, (40, 56, 3))).astype(np.uint8)
            for kind, array in (("images", image), ("masks", labels)):
                path = root / kind / split / f"{index:02}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    SPACE.to_yaml(root / "label_space.yaml")
    return root


def recipe_values(root: Path, **training: Any) -> dict[str, Any]:
    """A recipe as plain values; ``training`` changes its training section."""
    return {
        "name": "squares",
        "seed": 3,
        "data": {kind: {"kind": "folder", "root": str(root), "split": kind} for kind in ("train", "val")},
        "model": {
            "backbone": {"name": "tiny"},
            "decoder": {"kind": "light", "light_channels": 8, "dropout": 0.1},
            "multiscale": {"attention": {"channels": 4}},
        },
        "augment": {"crop": [24, 32]},
        "sampling": {"fraction": 0.5},
        "loss": {"main": "cross_entropy"},
        "training": {
            "epochs": 3,
            "batch_size": 2,
            "num_workers": 0,
            "log_every": 1,
            "tracker": "none",
            "ema_decay": 0.9,
            "optimizer": {"kind": "adamw", "lr": 2e-3},
            **training,
        },
        "validation": {"every": 2, "scales": [0.5, 1]},
    }


@pytest.fixture
def recipe(squares: Path) -> dict[str, Any]:
    """The recipe as plain values, to be changed and validated."""
    return recipe_values(squares)


@pytest.fixture
def config(recipe: dict[str, Any]) -> ExperimentConfig:
    """The recipe, validated."""
    return validate(ExperimentConfig, recipe)


@pytest.fixture
def recipe_file(recipe: dict[str, Any], tmp_path: Path) -> Path:
    """The recipe as a YAML file."""
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_yaml(recipe), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def whole_run(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of the recipe."""
    out = tmp_path_factory.mktemp("whole")
    train(validate(ExperimentConfig, recipe_values(squares)), out)
    return out
