"""Reading what evaluations and runs left: scores, counts, galleries, logs and configurations."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from polyscale.config import flat, read_yaml
from polyscale.errors import UserError
from polyscale.files import inside, refuse_address
from polyscale.report.ways import AVERAGE, FUSED

__all__ = ["Run", "Stored", "find_stored", "read_evaluation", "read_run", "undamaged"]

Array = np.ndarray[Any, Any]

RECORDING = "polyscale-recording 2"


@dataclass(frozen=True)
class Run:
    """A training run's folder."""

    folder: Path
    config: Mapping[str, Any]
    """The resolved configuration, nested keys joined by dots."""
    environment: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]]
    """Lines of ``log.jsonl``: losses, learning rate, validations."""


@dataclass(frozen=True)
class Stored:
    """One evaluation, and the run that trained its network where that is known."""

    name: str
    """What the page calls it; evaluations of one name are the seeds of one thing."""
    folder: Path
    scores: Mapping[str, Any] | None
    """``scores.json``; None for a run that was not evaluated."""
    about: Mapping[str, Any] | None = None
    """``recording.json``; None for an evaluation without counts."""
    counts: Mapping[str, Array] = field(default_factory=dict)
    """``counts.npz``."""
    run: Run | None = None

    def file(self, name: object) -> Path:
        """A file or folder of the evaluation, by the name that ``recording.json`` gives.

        Raises:
            UserError: the name leads elsewhere; a page must not show other files of whoever makes it.
        """
        return inside(self.folder, name)

    def pictures(self, entry: Mapping[str, Any]) -> dict[str, Path]:
        """Files of an image that was stored in full, by their names without suffix.

        Args:
            entry: of ``recording.json``.

        Raises:
            UserError: as for ``file``.
        """
        folder = entry["gallery"]["folder"]
        found = sorted(path.name for path in self.file(folder).iterdir() if path.suffix in (".png", ".jpg"))
        return {Path(name).stem: self.file(f"{folder}/{name}") for name in found}

    @property
    def method(self) -> str:
        """How the network combines scales."""
        return str(self.metadata.get("method", ""))

    @property
    def others(self) -> list[str]:
        """Rows besides the network's own, without the average of a network that averages: it is the same."""
        same = {FUSED, AVERAGE} if self.method == "average" else {FUSED}
        return [row for row in (self.scores or {}).get("rows", {}) if row not in same]

    @property
    def rival(self) -> str | None:
        """The row that the network's own is compared with: the average, or scale 1 for a network that averages."""
        if self.about is not None:
            row = self.about.get("rival", AVERAGE)
            return row if row in self.about["rows"] else None
        row = "scale 1" if self.method == "average" else AVERAGE
        return row if row in (self.scores or {}).get("rows", {}) else None

    @property
    def metadata(self) -> Mapping[str, Any]:
        """How it was evaluated."""
        found: Mapping[str, Any] = (self.scores or {}).get("metadata", {})
        return found


@contextlib.contextmanager
def undamaged(what: str | Path) -> Iterator[None]:
    """Whatever fails while the files of an evaluation are read or shown is a file that says what no evaluation says.

    Raises:
        UserError: in place of any other error but that of memory or permission.
    """
    try:
        yield
    except (UserError, MemoryError, PermissionError):
        raise
    except Exception as error:  # a wrong value can fail in any way
        told = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"the files of {what} are damaged ({told}); evaluate again with --report") from error


def find_stored(texts: Sequence[str]) -> list[Stored]:
    """Read all that was named on the command line.

    Args:
        texts: folders of runs or of evaluations, or ``scores.json`` files; ``NAME=PATH`` names one.

    Raises:
        UserError: one is neither, or damaged.
    """
    found = []
    for text in texts:
        before, separator, after = text.partition("=")
        named = bool(separator) and not Path(text).exists()
        path = Path(after if named else text)
        with undamaged(path):
            found.append(_find(path, before if named else None))
    return found


def _find(path: Path, name: str | None) -> Stored:
    if path.name == "scores.json" and path.is_file():
        path = path.parent
    if not path.is_dir():
        refuse_address(path)
        raise UserError(f"no such run or evaluation: {path}; give a run's folder, or a folder with scores.json")
    if (path / "scores.json").is_file():
        return read_evaluation(path, name)
    run = read_run(path)
    evaluated = sorted(path.glob("evaluation/**/scores.json"), key=lambda file: file.stat().st_mtime)
    if evaluated:
        return read_evaluation(evaluated[-1].parent, name or path.name, run)
    if run is None:
        raise UserError(f"{path} holds neither scores.json nor log.jsonl; give a folder of evaluate, or of train")
    return Stored(name or path.name, path, None, run=run)


def read_evaluation(folder: Path, name: str | None = None, run: Run | None = None) -> Stored:
    """Read an evaluation's folder.

    Raises:
        UserError: a file is missing or damaged.
    """
    scores = _json(folder / "scores.json")
    rows = scores.get("rows") if isinstance(scores, dict) else None
    if not isinstance(rows, dict) or "fused" not in rows or not isinstance(scores.get("metadata", {}), dict):
        raise UserError(f"{folder / 'scores.json'} is not an evaluation: it has no row 'fused'; evaluate again")
    checkpoint = scores.get("metadata", {}).get("checkpoint")
    if run is None and checkpoint is not None:
        run = read_run(Path(checkpoint).parent)
    about: Any = None
    counts: dict[str, Array] = {}
    if (folder / "recording.json").is_file():
        about = _json(folder / "recording.json")
        if not isinstance(about, dict) or about.get("format") != RECORDING:
            raise UserError(f"{folder / 'recording.json'} is of another version; evaluate again")
        if not about.get("complete"):
            raise UserError(f"the evaluation in {folder} did not end; evaluate again")
        counts = _arrays(folder / "counts.npz")
    return Stored(name or _default_name(folder, run), folder, scores, about, counts, run)


def _default_name(folder: Path, run: Run | None) -> str:
    if run is not None:
        named = run.config.get("name")
        return str(named) if named else run.folder.name
    return folder.resolve().parent.name if folder.name == "evaluation" else folder.name


def read_run(folder: Path) -> Run | None:
    """Read a run's folder, or None where it is none.

    Raises:
        UserError: a file is damaged.
    """
    if not (folder / "log.jsonl").is_file():
        return None
    config = read_yaml(folder / "config.yaml") if (folder / "config.yaml").is_file() else {}
    environment = _json(folder / "environment.json") if (folder / "environment.json").is_file() else {}
    lines = (folder / "log.jsonl").read_text(encoding="utf-8", errors="replace").split("\n")
    try:
        log = [json.loads(line) for line in lines[:-1]]  # what follows the last line break was cut off by a kill
    except (ValueError, RecursionError) as error:
        raise UserError(f"a line of {folder / 'log.jsonl'} is damaged ({error}); remove that line") from None
    return Run(folder, flat(config if isinstance(config, dict) else {}), environment, log)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}; evaluate again") from None


def _arrays(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # of damaged archives about ten types
        raise UserError(f"cannot read {path}: {error}; evaluate again") from None
