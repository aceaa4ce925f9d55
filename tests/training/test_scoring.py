"""Cheap scores while training, all scales at the end."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from polyscale.config import validate
from polyscale.errors import UserError
from polyscale.models.finding import find_network
from polyscale.training import ExperimentConfig, train
from polyscale.training.config import ScheduleConfig
from polyscale.training.listener import Silent
from polyscale.training.records import RunLog


class Told(Silent):
    """Keeps what is said, and the scales of each validation."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.scales: list[list[float]] = []

    def said(self, message: str) -> None:
        self.lines.append(message)

    def validated(self, epoch: int, evaluation: Any, best: bool) -> None:
        self.scales.append(sorted(evaluation.metadata["scales"]))


class Stop(Silent):
    """Sends this process SIGTERM when a step is reached."""

    def __init__(self, step: int) -> None:
        self.step = step

    def stepped(self, step: int, loss: float) -> None:
        if step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def test_the_best_network_is_scored_at_all_scales_after_the_last_epoch_once(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    recipe["validation"] |= {"final": True}
    config, told = validate(ExperimentConfig, recipe), Told()
    result = train(config, tmp_path, listener=told)
    assert told.scales == [[0.5, 1], [0.5, 1], [0.5, 1, 2]]
    assert told.lines[-1] == "the best network at scales 0.5, 1, 2:"
    (final,) = [line["final"] for line in RunLog.read(tmp_path / "log.jsonl") if "final" in line]
    from polyscale.evaluation import evaluate

    scored = evaluate(result.best, f"{recipe['data']['val']['root']}:val").scores.mean_iou
    assert final == {"scales": [0.5, 1, 2], "miou": pytest.approx(scored)}
    again = Told()
    train(config, tmp_path, resume=True, listener=again)
    assert again.scales == []


@pytest.mark.parametrize(
    "changes", [{"validation": {"final": True}}, {"validation": {"scales": [0.5, 1, 2], "final": True}}]
)
def test_a_last_score_without_effect_is_refused(recipe: dict[str, Any], changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"validation\.final has no effect"):
        validate(ExperimentConfig, recipe | changes)


def test_a_warm_up_is_shortened_to_a_fifth_of_the_run_and_told(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["training"] |= {"schedule": {"kind": "constant", "warmup_steps": 100}}
    told = Told()
    train(validate(ExperimentConfig, recipe), tmp_path, listener=told)
    assert "this run has 15 steps; its warm-up is shortened from 100 to a fifth" in told.lines[0]
    rates = [line["lr"] for line in RunLog.read(tmp_path / "log.jsonl") if "lr" in line]
    assert rates == pytest.approx([0.0005, 0.001, 0.0015, *[0.002] * 12])
    assert ScheduleConfig(warmup_steps=3).fitting(15).warmup_steps == 3


def test_a_run_that_is_stopped_before_its_first_validation_leaves_a_network(
    config: ExperimentConfig, tmp_path: Path
) -> None:
    train(config, tmp_path, listener=Stop(3))
    assert find_network(tmp_path) == tmp_path / "last.safetensors"


def test_pixels_are_not_counted_again_by_a_run_that_continues(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe["loss"]["class_weights"] = "inverse-log"
    recipe["training"]["epochs"] = 1
    config = validate(ExperimentConfig, recipe)
    train(config, tmp_path / "whole")
    counted = []
    from polyscale.training import sampling

    count = sampling.pixel_counts
    monkeypatch.setattr(sampling, "pixel_counts", lambda *given: counted.append(1) or count(*given))
    train(config, tmp_path / "stopped", listener=Stop(2))
    train(config, tmp_path / "stopped", resume=True)
    assert len(counted) == 1
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "stopped")]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("key", ["epochs", "epoch_length", "batch_size", "accumulate"])
def test_counts_that_no_run_can_have_are_refused(recipe: dict[str, Any], key: str) -> None:
    recipe["training"][key] = 10**30
    with pytest.raises(UserError, match=rf"training\.{key}: must be less than or equal to 10+"):
        validate(ExperimentConfig, recipe)
