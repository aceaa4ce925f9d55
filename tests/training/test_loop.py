"""The loop end to end on a few small images: what it leaves, resume, signals, and that it learns."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from campaign.sound import recipe_values
from safetensors.torch import load_file

from polyscale.config import dump_yaml, read_yaml, validate
from polyscale.errors import UserError
from polyscale.files import locked
from polyscale.models import load_checkpoint, read_metadata
from polyscale.training import ExperimentConfig, train
from polyscale.training.loop import Listener
from polyscale.training.records import RunLog

METHODS = ("hierarchical", "single", "average", "explicit")


def losses(folder: Path) -> dict[int, float]:
    return {line["step"]: line["loss"]["total"] for line in RunLog.read(folder / "log.jsonl") if "loss" in line}


def variant(recipe: dict[str, Any], **changes: Any) -> ExperimentConfig:
    """The recipe with keys ``section__key`` changed."""
    for name, value in changes.items():
        section, _, key = name.partition("__")
        recipe[section][key] = value
    return validate(ExperimentConfig, recipe)


class StopAfter(Listener):
    """Sends this process SIGTERM when a step is reached."""

    def __init__(self, step: int) -> None:
        self.step = step

    def started(self, first_step: int, total_steps: int, crops_per_step: int) -> None: ...
    def validated(self, epoch: int, evaluation: Any, best: bool) -> None: ...
    def said(self, message: str) -> None: ...
    def working(self, what: str, done: int, total: int) -> None: ...

    def stepped(self, step: int, loss: float) -> None:
        if step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def stopped_run(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the recipe that a signal stopped after three steps; copy it."""
    out = tmp_path_factory.mktemp("stopped")
    train(validate(ExperimentConfig, recipe_values(squares)), out, listener=StopAfter(3))
    return out


@pytest.fixture
def stopped(stopped_run: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be changed and continued."""
    return Path(shutil.copytree(stopped_run, tmp_path / "stopped"))


def test_what_a_run_leaves(whole_run: Path, config: ExperimentConfig) -> None:
    names = {path.name for path in whole_run.iterdir()}
    assert {
        "best.safetensors",
        "last.safetensors",
        "config.yaml",
        "environment.json",
        "log.jsonl",
        "resume.pt",
    } <= names
    assert not [name for name in names if name.endswith(".tmp")]
    assert validate(ExperimentConfig, read_yaml(whole_run / "config.yaml")) == config
    assert json.loads((whole_run / "environment.json").read_text())["torch"] == torch.__version__.split("+")[0]
    assert sorted(losses(whole_run)) == list(range(1, 16))  # 3 epochs of 10 crops in batches of 2
    validated = [line["validation"]["epoch"] for line in RunLog.read(whole_run / "log.jsonl") if "validation" in line]
    assert validated == [2, 3]
    metadata = read_metadata(whole_run / "best.safetensors")
    assert metadata.info["miou"] == pytest.approx(
        max(line["validation"]["miou"] for line in RunLog.read(whole_run / "log.jsonl") if "validation" in line)
    )
    model = load_checkpoint(whole_run / "last.safetensors").model
    assert model(torch.rand(1, 3, 33, 47)).logits.shape == (1, 3, 33, 47)


@pytest.mark.parametrize("step", [1, 5, 7, 12])
def test_resume_after_a_stop_is_bit_identical(
    whole_run: Path, config: ExperimentConfig, tmp_path: Path, step: int
) -> None:
    stopped = train(config, tmp_path / "run", listener=StopAfter(step))
    assert stopped.signal == signal.SIGTERM
    assert stopped.steps == step
    finished = train(config, tmp_path / "run", resume=True)
    assert finished.signal is None
    assert losses(tmp_path / "run") == losses(whole_run)
    for name in ("last.safetensors", "best.safetensors"):
        expected, actual = load_file(whole_run / name), load_file(tmp_path / "run" / name)
        assert all(torch.equal(expected[key], actual[key]) for key in expected)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [(6,), (2, 6, 11)])
def test_resume_after_kill_at_any_moment(
    whole_run: Path, recipe: dict[str, Any], tmp_path: Path, kills: tuple[int, ...]
) -> None:
    """A process that is killed outright, once or several times, ends with the same losses."""
    out = tmp_path / "run"
    recipe["training"]["save_every"] = 0.001
    (tmp_path / "recipe.yaml").write_text(dump_yaml(recipe))
    code = "import sys; from polyscale.training import train; train(sys.argv[1], sys.argv[2], resume=True)"
    for kill_at in kills:
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "recipe.yaml"), str(out)])
        while process.poll() is None and max(losses(out), default=0) < kill_at:
            time.sleep(0.005)
        process.kill()
        process.wait()
        assert max(losses(out)) < 15, "the run ended before it could be killed"
    train(tmp_path / "recipe.yaml", out, resume=True)
    assert losses(out) == losses(whole_run)


def test_resume_where_there_is_nothing_starts(config: ExperimentConfig, tmp_path: Path) -> None:
    result = train(config, tmp_path / "new", resume=True, listener=StopAfter(1))
    assert result.steps == 1


def test_an_existing_run_is_not_overwritten(config: ExperimentConfig, stopped: Path) -> None:
    with pytest.raises(UserError, match="--resume"):
        train(config, stopped)


def test_another_configuration_cannot_continue(recipe: dict[str, Any], stopped: Path) -> None:
    with pytest.raises(UserError, match=r"another configuration \(augment\.crop \[24, 32\], now \[16, 16\]\)"):
        train(variant(recipe, augment__crop=[16, 16]), stopped, resume=True)


def test_a_damaged_state_is_named(config: ExperimentConfig, stopped: Path) -> None:
    (stopped / "last.safetensors").unlink()  # as after a kill
    state = stopped / "resume.pt"
    for content in (b"PK nothing", b"", state.read_bytes()[:-9]):
        state.write_bytes(content)
        with pytest.raises(UserError, match=r"resume\.pt cannot be read \([^.]*\); remove it"):
            train(config, stopped, resume=True)
        with pytest.raises(UserError, match="holds a run already"):
            train(config, stopped)
    (stopped / "last.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"resume\.pt cannot be read \([^.]*\); choose another --out"):
        train(config, stopped, resume=True)


@pytest.mark.parametrize("method", METHODS)
def test_all_methods_train_and_learn(recipe: dict[str, Any], tmp_path: Path, method: str) -> None:
    recipe["model"]["multiscale"]["method"] = method
    # All images have one size here, so that no training crop is like the view at 2x.
    recipe["validation"]["scales"] = {"hierarchical": [0.5, 1], "average": [0.5, 1]}.get(method, [])
    length = {"epochs": 2, "epoch_length": 100}  # one validation at the end
    recipe["training"] |= {"optimizer": {"kind": "adamw", "lr": 1e-2}, "ema_decay": None, **length}
    config = variant(recipe, augment__scale=[1, 1], loss__class_weights="inverse-log")
    result = train(config, tmp_path)
    curve = losses(tmp_path)
    first, last = ([value for step, value in curve.items() if step in span] for span in (range(1, 6), range(96, 101)))
    assert sum(last) < 0.8 * sum(first)
    assert result.best_miou is not None
    assert result.best_miou > 0.4
    model = load_checkpoint(result.best).model
    assert model.method == method


def test_accumulation_equals_a_larger_batch_for_a_loss_that_is_a_mean(recipe: dict[str, Any], tmp_path: Path) -> None:
    """Frozen batch norm and no dropout: two micro-steps of 2 give the first loss of one step of 4, up to ignored
    pixels' share.
    """
    recipe["model"]["decoder"]["dropout"] = 0.0
    common = {"training__freeze_batchnorm": True, "training__epochs": 1, "training__ema_decay": None}
    train(variant(recipe, training__batch_size=4, **common), tmp_path / "one")
    train(variant(recipe, training__batch_size=2, training__accumulate=2, **common), tmp_path / "two")
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert list(one) == list(two) == [1, 2]
    assert one[1] == pytest.approx(two[1], rel=0.05)


def test_a_loss_that_is_not_finite_is_an_error(recipe: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the loss is (nan|inf).*lower training\.optimizer\.lr"):
        train(variant(recipe, training__optimizer={"kind": "sgd", "lr": 1e30}), tmp_path)


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_failed_in_its_first_step_leaves_its_folder_to_the_next(
    recipe: dict[str, Any], config: ExperimentConfig, tmp_path: Path, resume: bool
) -> None:
    narrow = variant(recipe, training__batch_size=1, augment__crop=[8, 8], model__backbone={"name": "resnet18"})
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        train(narrow, tmp_path / "run")
    result = train(config, tmp_path / "run", resume)
    assert result.last.exists()


def test_a_network_that_diverged_between_logged_steps_is_not_saved(recipe: dict[str, Any], tmp_path: Path) -> None:
    changes = {"optimizer": {"kind": "sgd", "lr": 1e30}, "log_every": 1000, "epochs": 2, "ema_decay": None}
    recipe["training"] |= changes
    recipe["data"]["val"] = None
    with pytest.raises(UserError, match=r"at step \d \(images .*; lower training\.optimizer\.lr"):
        train(validate(ExperimentConfig, recipe), tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))
    assert torch.load(tmp_path / "resume.pt", weights_only=True)["step"] == 0


def test_a_network_is_not_overwritten_where_its_state_of_resume_was_removed(
    config: ExperimentConfig, tmp_path: Path
) -> None:
    (tmp_path / "best.safetensors").write_text("precious")
    with pytest.raises(UserError, match="holds a run already"):
        train(config, tmp_path)
    with pytest.raises(UserError, match=r"no resume\.pt to continue from"):  # as where torchrun starts it again
        train(config, tmp_path, resume=True)
    assert (tmp_path / "best.safetensors").read_text() == "precious"


@pytest.mark.slow
def test_an_error_ends_the_process_though_loaders_run(squares: Path, recipe: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(squares, tmp_path / "data")
    (tmp_path / "data" / "images" / "train" / "03.png").write_bytes(b"broken")
    recipe["data"]["train"]["root"] = str(tmp_path / "data")
    recipe["training"] |= {"num_workers": 2, "check_data": False}
    recipe["sampling"]["fraction"] = 0
    (tmp_path / "recipe.yaml").write_text(dump_yaml(recipe))
    command = [sys.executable, "-m", "polyscale", "train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "r")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 2, done.stderr
    assert "03.png" in done.stderr


def test_a_folder_in_use_is_refused(config: ExperimentConfig, tmp_path: Path) -> None:
    with locked(tmp_path / ".lock", ""), pytest.raises(UserError, match="another run is training into"):
        train(config, tmp_path)
    assert not (tmp_path / "config.yaml").exists()


def test_other_images_cannot_continue(squares: Path, recipe: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(squares, tmp_path / "data")
    recipe["data"]["train"]["root"] = str(tmp_path / "data")
    config = validate(ExperimentConfig, recipe)
    train(config, tmp_path / "run", listener=StopAfter(7))
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind / "train" / "03.png").unlink()
    with pytest.raises(UserError, match="belongs to a run on other training images"):
        train(config, tmp_path / "run", resume=True)


def test_a_key_that_a_later_version_added_does_not_stop_a_run(config: ExperimentConfig, stopped: Path) -> None:
    state = torch.load(stopped / "resume.pt", weights_only=True)
    stored = json.loads(state["config"])
    del stored["model"]["pad"]
    torch.save(state | {"config": json.dumps(stored)}, stopped / "resume.pt")
    assert train(config, stopped, resume=True).steps == 15


@pytest.mark.parametrize(
    "change",
    [
        {"config": 3},
        {"config": "["},
        {"config": "[" * 5000},
        {"config": "[]"},
        {"step": "3"},
        {"step": 10**9},
        {"step": -1},
        {"best_miou": "x"},
        {"model": 3},
        {"model": {"x": torch.zeros(1)}},
        {"optimizer": {}},
        {"optimizer": {"state": 3, "param_groups": 3}},
        {"data": None},
        {"global_batch": "x"},
        None,
        [],
    ],
)
def test_a_state_of_wrong_types_is_one_line(config: ExperimentConfig, stopped: Path, change: Any) -> None:
    state = torch.load(stopped / "resume.pt", weights_only=True)
    torch.save(state | change if isinstance(change, dict) else change, stopped / "resume.pt")
    with pytest.raises(UserError, match=r"resume\.pt|crops a step") as caught:
        train(config, stopped, resume=True)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_loader_that_is_killed_while_the_state_is_saved_is_no_full_disk(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise RuntimeError("DataLoader worker (pid 3) is killed by signal: Killed. ")

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        train(config, tmp_path)


def test_a_full_disk_is_told_where_the_state_is_saved(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda state, _: save(state, "/dev/full"))
    with pytest.raises(UserError, match=r"cannot write .*resume\.pt: .*free some space"):
        train(config, tmp_path)


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_validation_has_the_precision_of_training_and_says_so(
    recipe: dict[str, Any], tmp_path: Path, ema_decay: float | None
) -> None:
    class Scores(StopAfter):
        def validated(self, epoch: int, evaluation: Any, best: bool) -> None:
            self.autocast = evaluation.metadata["autocast"]

    listener = Scores(-1)
    changes = {"mixed_precision": "bf16", "epochs": 1, "ema_decay": ema_decay}
    train(variant(recipe, **{f"training__{key}": value for key, value in changes.items()}), tmp_path, listener=listener)
    assert listener.autocast == "bfloat16"


@pytest.mark.slow
def test_a_signal_to_the_whole_group_of_processes_saves(recipe: dict[str, Any], tmp_path: Path) -> None:
    """As Slurm and containers send it: the loader's processes get it too."""
    recipe["training"] |= {"num_workers": 1, "epochs": 1000}
    (tmp_path / "recipe.json").write_text(validate(ExperimentConfig, recipe).model_dump_json())
    command = [
        sys.executable,
        "-m",
        "polyscale",
        "train",
        str(tmp_path / "recipe.json"),
        "--out",
        str(tmp_path / "run"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while process.poll() is None and max(losses(tmp_path / "run"), default=0) < 3:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGTERM)
    _, shown = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, shown
    assert "continue with --resume" in shown


def test_bf16_trains(recipe: dict[str, Any], tmp_path: Path) -> None:
    """Also that a second call in one process may choose another precision."""
    train(variant(recipe, training__epochs=1), tmp_path / "fp32")
    train(variant(recipe, training__mixed_precision="bf16"), tmp_path / "bf16")
    assert all(math.isfinite(value) for value in losses(tmp_path / "bf16").values())
    assert losses(tmp_path / "bf16")[1] == pytest.approx(losses(tmp_path / "fp32")[1], rel=0.05)


def test_an_unreadable_image_is_an_error_at_the_start(recipe: dict[str, Any], squares: Path, tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "data"
    shutil.copytree(squares, root)
    (root / "images/train/04.png").write_bytes((squares / "images/train/04.png").read_bytes()[:200])
    recipe["data"] = {"train": {"kind": "folder", "root": str(root), "split": "train"}}
    with pytest.raises(UserError, match=r"04\.png"):
        train(validate(ExperimentConfig, recipe), tmp_path / "run")
    assert not (tmp_path / "run" / "log.jsonl").exists()
