"""A small labelled folder and a recipe that trains on it in seconds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from campaign.sound import SPACE, recipe_values
from PIL import Image

from polyscale.config import dump_yaml, validate
from polyscale.training import ExperimentConfig, train


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
