"""What a run leaves beside its checkpoints: resolved configuration, environment and log."""

import importlib.metadata
import json
import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import polyscale
from polyscale.config import dump_yaml, flat
from polyscale.errors import UserError
from polyscale.files import write_atomically
from polyscale.training.config import ExperimentConfig
from polyscale.training.trackers import Tracker

__all__ = ["RunLog", "environment", "write_environment", "write_resolved_config"]


def environment() -> dict[str, Any]:
    """Versions, hardware and the git commit of the code, for the record beside a result."""
    packages = ("torch", "torchvision", "timm", "accelerate", "numpy", "pillow", "pydantic", "safetensors")
    versions = {name: importlib.metadata.version(name) for name in packages}
    cuda = torch.cuda.is_available()
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "polyscale": polyscale.__version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if cuda else [],
        "cuda": torch.version.cuda if cuda else None,
        **versions,
    }


def _git_commit() -> str | None:
    """Commit of the checkout that this package runs from, ``+changes`` where files differ; None outside one."""
    folder = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", str(folder.parent)],
            cwd=folder, capture_output=True, text=True, check=True, timeout=10,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if changed else commit


def write_resolved_config(path: Path, config: ExperimentConfig) -> None:
    """Write the configuration with every default filled in; ``polyscale train`` reads it back to the same run."""
    with write_atomically(path) as temporary:
        temporary.write_text(dump_yaml(config.model_dump(mode="json")), encoding="utf-8")


def write_environment(path: Path) -> None:
    """Write ``environment()`` as JSON."""
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(environment(), indent=2) + "\n", encoding="utf-8")


class RunLog:
    """``log.jsonl``: one line for each logged step and each validation, and the same numbers in a tracker.

    A resumed run first drops the lines after the step from which it continues, so that each step stands once.

    Args:
        folder: the run's folder.
        first_step: steps that are done.
        tracker: told of the same numbers, and closed with the log.

    Raises:
        UserError: the log cannot be written.
    """

    def __init__(self, folder: Path, first_step: int, tracker: Tracker | None = None) -> None:
        self.path, self.tracker = folder / "log.jsonl", tracker
        kept = [line for line in self.read(self.path) if line["step"] <= first_step] if first_step else []
        with write_atomically(self.path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    @staticmethod
    def read(path: Path) -> list[dict[str, Any]]:
        """The log's lines; a last line that a kill cut off is left out.

        Raises:
            UserError: another line is damaged.
        """
        if not path.is_file():
            return []
        texts = path.read_text(encoding="utf-8", errors="replace").split("\n")
        # Each line ends in a line break; what follows the last one was cut off.
        return [_parsed(text, f"line {number} of {path}") for number, text in enumerate(texts[:-1], start=1)]

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Append one line; numbers also go to the tracker under their keys."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
        except OSError as error:
            raise UserError(
                f"cannot write {self.path}: {error.strerror or error}; free some space, then use --resume"
            ) from None
        if self.tracker is not None:
            listed = flat(values, separator="/").items()
            self.tracker.write(step, {key: float(value) for key, value in listed if _is_number(value)})

    def close(self) -> None:
        """Close the tracker."""
        if self.tracker is not None:
            self.tracker.close()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        line: dict[str, Any] = json.loads(text)
        if type(line["step"]) is not int:
            raise TypeError
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UserError(f"{where} is damaged; remove that line to continue") from None
    return line
