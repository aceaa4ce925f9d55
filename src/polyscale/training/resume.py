"""The state from which a killed run continues, and the signals that ask it to stop.

No random-number state is stored, as every draw is a function of (seed, step). The state is a file of tensors and plain
values; it is read back with ``weights_only=True`` and only by a run with the same configuration.
"""

import hashlib
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator

from polyscale.config import flat, validate
from polyscale.errors import UserError
from polyscale.files import memory_limit, write_atomically
from polyscale.training.config import ExperimentConfig
from polyscale.training.setup import Parts

__all__ = ["Progress", "StopRequest", "has_begun", "restore_state", "save_state", "stop_on_signals"]


@dataclass
class Progress:
    """How far a run is."""

    step: int = 0
    """Optimiser steps done."""
    best_miou: float | None = None
    """In [0, 1]; None before the first validation."""


def save_state(
    path: Path, config: ExperimentConfig, parts: Parts, progress: Progress, accelerator: Accelerator
) -> None:
    """Write the state in one step: a kill at any moment leaves the old one or the new one.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    state = {
        "config": config.model_dump_json(),
        "data": _data_digest(parts),
        "global_batch": parts.plan.global_batch,
        "step": progress.step,
        "best_miou": progress.best_miou,
        "model": parts.model.state_dict(),
        "optimizer": parts.optimizer.state_dict(),
        "average": None if parts.average is None else parts.average.state_dict(),
        "scaler": None if accelerator.scaler is None else accelerator.scaler.state_dict(),
    }
    with write_atomically(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:
            if "inline_container" not in str(error):  # torch's zip writer, which so reports a full disk
                raise  # such as a loader's process that the system ended meanwhile
            raise OSError("writing failed, the disk may be full") from error


def has_begun(path: Path) -> bool:
    """Whether a saved state is there that could be lost: one after a step or more, or one that cannot be read."""
    if not path.exists():
        return False
    try:
        with memory_limit(path):
            return bool(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["step"])
    except Exception:  # torch raises many types for a damaged file
        return True


def restore_state(path: Path, config: ExperimentConfig, parts: Parts, accelerator: Accelerator) -> Progress:
    """Put a saved state into the parts of a run with the same configuration.

    Raises:
        UserError: an unreadable file, or a run of another configuration or batch.
    """
    try:
        with memory_limit(path):
            state = torch.load(path, map_location="cpu", weights_only=True)
        return _restore(path, state, config, parts, accelerator)
    except UserError:
        raise
    except Exception as error:  # torch raises many types for a damaged file
        # The first sentence only: the others advise to unpickle it, or speak of torch's inner parts.
        reason = (str(error) or type(error).__name__).splitlines()[0].partition(". ")[0][:200]
        advice = "choose another --out, where training.start_from may begin with the network that is there"
        if not (path.parent / "last.safetensors").exists():
            advice = "remove it to start anew from the beginning"
        raise UserError(f"{path} cannot be read ({reason}); {advice}") from None


def _restore(path: Path, state: Any, config: ExperimentConfig, parts: Parts, accelerator: Accelerator) -> Progress:
    changed = _differences(json.loads(state["config"]), config)
    if changed:
        raise UserError(
            f"{path} belongs to a run of another configuration ({', '.join(changed[:3])}); continue it with --resume "
            "and --out alone, or choose another --out, where training.start_from may begin with its network"
        )
    if state["data"] != _data_digest(parts):
        raise UserError(
            f"{path} belongs to a run on other training images: some were added, removed or renamed since; put them "
            "back, or choose another --out"
        )
    if state["global_batch"] != parts.plan.global_batch:
        raise UserError(
            f"the run was made with {state['global_batch']} crops a step and would continue with "
            f"{parts.plan.global_batch}; choose training.batch_size and training.accumulate so that their product with "
            "the number of processes is the same"
        )
    step, best = state["step"], state["best_miou"]
    if type(step) is not int or not 0 <= step <= parts.plan.total_steps or not isinstance(best, float | None):
        raise ValueError(f"step {step!r} of {parts.plan.total_steps}")
    parts.model.load_state_dict(state["model"])
    parts.optimizer.load_state_dict(state["optimizer"])
    if parts.average is not None:
        parts.average.load_state_dict(state["average"])
    if accelerator.scaler is not None and state["scaler"] is not None:
        accelerator.scaler.load_state_dict(state["scaler"])
    return Progress(step, best)


def _differences(stored: dict[str, Any], config: ExperimentConfig) -> list[str]:
    """What a run's configuration had otherwise in all that decides its numbers, a text for each key.

    Bookkeeping is left out, and so is how the global batch is spread over processes, which may change. Keys that a
    later version has added count with their defaults.
    """
    try:
        before = flat(validate(ExperimentConfig, stored).model_dump(mode="json"))
    except UserError as error:
        return [str(error)]
    now = flat(config.model_dump(mode="json"))
    keys = ("num_workers", "log_every", "save_every", "check_data", "tracker", "batch_size", "accumulate")
    free = {"notes", *(f"training.{key}" for key in keys)}
    absent = object()
    return [
        f"{key} {before.get(key)}, now {now.get(key)}"
        for key in (*now, *(key for key in before if key not in now))
        if key not in free and before.get(key, absent) != now.get(key, absent)
    ]


def _data_digest(parts: Parts) -> str:
    """Hash of the names of the training images, on which every draw depends."""
    names = "\n".join(item.name for item in parts.train_data.items)
    return hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()


class StopRequest:
    """Set by SIGTERM or Ctrl-C; the loop looks at it between steps, saves and stops."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler. A second Ctrl-C stops at once."""
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn SIGTERM and Ctrl-C into a request to save and stop; does nothing outside the main thread."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    previous = {number: signal.signal(number, request) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
