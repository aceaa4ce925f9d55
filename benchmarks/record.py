"""How benchmarks record: dated JSON with hardware and versions under ``benchmarks/results``, and a table on the
screen.
"""

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from polyscale.cli.display import print_table
from polyscale.files import write_atomically
from polyscale.training import TrainingResult
from polyscale.training.records import environment

__all__ = ["RESULTS", "finished", "save", "show"]

RESULTS = Path(__file__).parent / "results"


def save(name: str, values: dict[str, Any], folder: Path | None = None) -> Path:
    """Write ``NAME-DATE.json`` and say where."""
    path = (folder or RESULTS) / f"{name}-{datetime.now(timezone.utc):%Y-%m-%d}.json"
    with write_atomically(path) as temporary:
        temporary.write_text(
            json.dumps({"benchmark": name, "environment": environment(), **values}, indent=2) + "\n", "utf-8"
        )
    print(f"wrote {path}")
    return path


def show(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Print a table."""
    print_table(title, columns, [[str(cell) for cell in row] for row in rows])


def finished(result: TrainingResult) -> Path:
    """The checkpoint of a training that reached its end; one that a signal stopped ends the benchmark with it."""
    if result.signal is not None:
        raise SystemExit(128 + result.signal)
    return result.last
