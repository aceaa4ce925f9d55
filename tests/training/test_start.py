"""A run that starts from the checkpoint of another."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from polyscale.config import validate
from polyscale.training import ExperimentConfig, train


def test_training_starts_from_a_checkpoint(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["training"] |= {"epochs": 1, "ema_decay": None}
    first = train(validate(ExperimentConfig, recipe), tmp_path / "first").last
    # So small a rate leaves what it starts from.
    recipe["training"] |= {"start_from": str(first), "optimizer": {"lr": 1e-12}}
    recipe["seed"] = 99
    second = train(validate(ExperimentConfig, recipe), tmp_path / "second").last
    before, after = load_file(first), load_file(second)
    weights = [name for name in before if name.endswith("weight")]
    assert weights
    for name in weights:
        torch.testing.assert_close(after[name], before[name])
