"""Trackers of a run's numbers and validation pictures: TensorBoard, Weights & Biases, MLflow.

``log.jsonl`` always holds every number. A tracker that fails while a run goes on is left, with a warning: a server that
is restarted must not end a training of days.
"""

import importlib.util
import uuid
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from PIL import Image

from polyscale.config import flat
from polyscale.errors import UserError
from polyscale.files import write_atomically
from polyscale.training.config import ExperimentConfig

__all__ = ["Tracker", "TrackerWarning", "open_tracker"]

_RUN_FILE = "tracker-run"


class TrackerWarning(UserWarning):
    """A tracker failed and gets no more numbers."""


class Tracker(Protocol):
    """Takes numbers and pictures of a run."""

    def write(self, step: int, values: dict[str, float]) -> None:
        """Numbers by name."""

    def show(self, step: int, pictures: Sequence[Image.Image]) -> None:
        """Pictures of the validation."""

    def close(self) -> None:
        """The run ends."""


def open_tracker(config: ExperimentConfig, folder: Path, first_step: int) -> Tracker | None:
    """The tracker that a recipe asks for.

    Args:
        config: of the run.
        folder: of the run.
        first_step: steps that are done; a tracker continues the run that it had begun.

    Returns:
        None where none is asked for, or TensorBoard is not installed.

    Raises:
        UserError: the library of the tracker is missing, or it cannot be started.
    """
    kind = config.training.tracker
    if kind == "none":
        return None
    if kind == "tensorboard":
        return _TensorBoard(folder, first_step) if _is_installed("tensorboard") else None
    if not _is_installed(kind):
        raise UserError(f"training.tracker={kind} needs {kind}; install it with: pip install {kind}")
    try:
        return _Accelerated(kind, config, folder, first_step)
    except Exception as error:  # they raise many types, and speak of servers and keys
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"training.tracker={kind} cannot be started: {reason}") from None


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


class _TensorBoard:
    """Events below ``tensorboard/``; those of steps that are done again are hidden."""

    def __init__(self, folder: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder / "tensorboard"
        self._events: Any = SummaryWriter(str(self._folder), purge_step=first_step or None)

    def write(self, step: int, values: dict[str, float]) -> None:
        try:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)
        except OSError as error:
            raise self._failed(error) from None

    def show(self, step: int, pictures: Sequence[Image.Image]) -> None:
        try:
            for number, picture in enumerate(pictures):
                self._events.add_image(f"validation/{number}", np.asarray(picture), step, dataformats="HWC")
        except OSError as error:
            raise self._failed(error) from None

    def close(self) -> None:
        self._events.close()

    def _failed(self, error: OSError) -> UserError:
        return UserError(f"cannot write {self._folder}: {error.strerror or error}; free some space, then use --resume")


class _Accelerated:
    """A tracker of accelerate. The project or experiment has the recipe's name, the run that of its folder."""

    def __init__(
        self, kind: Literal["wandb", "mlflow"], config: ExperimentConfig, folder: Path, first_step: int
    ) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        path = folder / _RUN_FILE
        begun = path.read_text(encoding="ascii").strip() if first_step and path.is_file() else None
        options: dict[str, Any]
        if kind == "wandb":
            begun = begun or uuid.uuid4().hex[:12]
            options = {"dir": str(folder), "name": folder.resolve().name, "id": begun, "resume": "allow"}
        else:
            options = {"run_name": folder.resolve().name, "run_id": begun}
        self._kind = kind
        self._tracker: Any = LOGGER_TYPE_TO_CLASS[kind](config.name, **options)
        if hasattr(self._tracker, "start"):  # before accelerate 1.8 making it was enough
            self._tracker.start()
        self._works = True
        if kind == "mlflow":
            begun = self._tracker.tracker.info.run_id
        with write_atomically(path) as temporary:
            temporary.write_text(f"{begun}\n", encoding="ascii")
        if not first_step:
            plain = {
                key: value if isinstance(value, str | bool | int | float | None) else str(value)
                for key, value in flat(config.model_dump(mode="json")).items()
            }
            self._tracker.store_init_configuration(plain)

    def write(self, step: int, values: dict[str, float]) -> None:
        self._try(lambda: self._tracker.log(values, step=step))

    def show(self, step: int, pictures: Sequence[Image.Image]) -> None:
        self._try(lambda: self._show(step, pictures))

    def _show(self, step: int, pictures: Sequence[Image.Image]) -> None:
        if self._kind == "wandb":
            self._tracker.log_images({"validation/pictures": list(pictures)}, step=step)
            return
        import mlflow

        for number, picture in enumerate(pictures):
            mlflow.log_image(picture, f"validation/{number}_step_{step:07}.png")

    def close(self) -> None:
        self._try(self._tracker.finish)

    def _try(self, work: Any) -> None:
        if not self._works:
            return
        try:
            work()
        except Exception as error:
            self._works = False
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            warnings.warn(
                f"{self._kind} failed and gets no more of this run ({reason}); log.jsonl has every number",
                TrackerWarning,
                stacklevel=2,
            )
