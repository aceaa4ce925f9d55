"""Trackers, with stand-ins for their libraries: nothing goes over a network."""

import sys
import types
import warnings
from pathlib import Path
from typing import Any

import pytest

from polyscale.config import validate
from polyscale.errors import UserError
from polyscale.training import ExperimentConfig, trackers, train
from polyscale.training.records import RunLog

ONE = {"epochs": 1, "epoch_length": 4}


class Runs:
    """What the libraries were told."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.config: dict[str, Any] = {}
        self.numbers: list[tuple[int, dict[str, Any]]] = []
        self.pictures: list[Any] = []
        self.ended = 0
        self.fails = False


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Modules ``wandb`` and ``mlflow`` as far as accelerate uses them."""
    seen = Runs()

    class Run:
        info = types.SimpleNamespace(run_id="abc123")

        def log(self, values: dict[str, Any], step: int | None = None) -> None:
            if seen.fails:
                raise ConnectionError("the server has gone")
            images = {k: v for k, v in values.items() if isinstance(v, list)}
            seen.pictures += [picture for listed in images.values() for picture in listed]
            if not images:
                seen.numbers.append((step or 0, values))

        def finish(self) -> None:
            seen.ended += 1

    def start(**options: Any) -> Run:
        seen.started.append(options)
        return Run()

    wandb: Any = types.ModuleType("wandb")
    wandb.init, wandb.Image = start, lambda picture: picture
    wandb.config = types.SimpleNamespace(update=lambda values, **_: seen.config.update(values))
    mlflow: Any = types.ModuleType("mlflow")
    mlflow.search_experiments, mlflow.create_experiment = lambda **_: [], lambda **_: "7"
    mlflow.start_run, mlflow.end_run = start, lambda: Run().finish()
    mlflow.log_params = seen.config.update
    mlflow.log_metrics = lambda values, step: Run().log(values, step)
    mlflow.log_image = lambda picture, path: seen.pictures.append(picture)
    limits = types.SimpleNamespace(MAX_PARAM_VAL_LENGTH=500, MAX_PARAMS_TAGS_PER_BATCH=100)
    mlflow.utils = types.SimpleNamespace(validation=limits)
    for module in (wandb, mlflow):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(trackers, "_is_installed", lambda name: True)
    return seen


def with_tracker(recipe: dict[str, Any], kind: str, **training: Any) -> ExperimentConfig:
    recipe["training"].pop("tracker", None)
    recipe["training"] |= {**ONE, "tracker": kind, **training}
    recipe["validation"] = {"every": 1, "scales": [1, 0.5]}
    return validate(ExperimentConfig, recipe)


@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_a_tracker_gets_settings_numbers_and_pictures(
    recipe: dict[str, Any], tmp_path: Path, runs: Runs, kind: str
) -> None:
    config = with_tracker(recipe, kind)
    train(config, tmp_path / "run")
    assert runs.config["training.batch_size"] == 2
    logged = {step: values["loss/total"] for step, values in runs.numbers if "loss/total" in values}
    lines = RunLog.read(tmp_path / "run/log.jsonl")
    assert logged == {line["step"]: line["loss"]["total"] for line in lines if "loss" in line}
    assert any("validation/miou" in values for _, values in runs.numbers)
    assert len(runs.pictures) == 3  # as many as there are validation images
    assert runs.pictures[0].width > 3 * 56
    assert runs.ended == 1
    name = "name" if kind == "wandb" else "run_name"
    assert runs.started[0][name] == "run"


@pytest.mark.parametrize(("kind", "key"), [("wandb", "id"), ("mlflow", "run_id")])
def test_a_run_that_continues_goes_on_in_the_same_tracked_run(
    recipe: dict[str, Any], tmp_path: Path, runs: Runs, kind: str, key: str
) -> None:
    config = with_tracker(recipe, kind)
    train(config, tmp_path / "run")
    train(config, tmp_path / "run", resume=True)
    identity = (tmp_path / "run/tracker-run").read_text().strip()
    assert runs.started[1][key] == identity


def test_a_tracker_that_fails_does_not_end_the_run(recipe: dict[str, Any], tmp_path: Path, runs: Runs) -> None:
    runs.fails = True
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        result = train(with_tracker(recipe, "wandb"), tmp_path / "run")
    assert result.steps == 2
    lines = [str(warning.message) for warning in told if issubclass(warning.category, trackers.TrackerWarning)]
    assert len(lines) == 1
    assert "the server has gone" in lines[0]


def test_a_library_that_is_missing_is_told_in_one_line(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "_is_installed", lambda name: False)
    with pytest.raises(UserError, match="needs wandb; install it with: pip install wandb"):
        train(with_tracker(recipe, "wandb"), tmp_path / "run")


def test_tensorboard_holds_validation_pictures(recipe: dict[str, Any], tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(with_tracker(recipe, "tensorboard"), tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    assert "validation/0" in events.Tags()["images"]
    assert "loss/total" in events.Tags()["scalars"]


def test_recipes_of_before_say_tensorboard(recipe: dict[str, Any]) -> None:
    del recipe["training"]["tracker"]
    recipe["training"]["tensorboard"] = False
    assert validate(ExperimentConfig, recipe).training.tracker == "none"
    recipe["training"]["tensorboard"] = True
    assert validate(ExperimentConfig, recipe).training.tracker == "tensorboard"
