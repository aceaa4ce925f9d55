"""Every recipe in configs/ is valid."""

from pathlib import Path

import pytest

from polyscale.cli.demo import RECIPE
from polyscale.config import load_config
from polyscale.training import ExperimentConfig

CONFIGS = Path(__file__).parents[1] / "configs"
ADDITIONS = {"holdout.yaml"}  # second files, on top of a recipe


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONFIGS)))
def test_recipe_is_valid(path: Path) -> None:
    files = [path] if path.name not in ADDITIONS else [path.parent / "lite0.yaml", path]
    config = load_config(ExperimentConfig, files)
    if path.name == "holdout.yaml":
        assert config.data.train.exclude == config.data.val.include == ("0006R0*",)  # type: ignore[union-attr]


def test_the_demos_recipe_is_valid() -> None:
    assert load_config(ExperimentConfig, [RECIPE]).model.multiscale.train_scales == (0.5, 1)
