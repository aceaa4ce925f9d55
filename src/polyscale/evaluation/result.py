"""The result of an evaluation: JSON first, and from it the CSV files and the rows of the printed tables.

Files hold fractions in [0, 1] and null (or an empty cell) for what is not defined; only ``tables`` shows
percent.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from polyscale.evaluation.attention import AttentionTable
from polyscale.evaluation.instances import InstanceScores
from polyscale.evaluation.rows import FUSED
from polyscale.files import write_atomically
from polyscale.metrics import Scores

__all__ = ["Evaluation", "Table"]

_PER_CLASS = ("pixels", "iou", "precision", "recall", "f1", "boundary_iou")


class Table(NamedTuple):
    """A table to print: every cell is text, every score in percent."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Evaluation:
    """Scores of one network on one data set."""

    rows: dict[str, Scores]
    """Way of combining scales -> scores; "fused" is the network's own, first, and always there."""
    attention: AttentionTable | None
    """Mean weight of each scale by true class; None where the method has no attention."""
    metadata: dict[str, Any]
    """Plain values: how and on what it was measured."""
    instances: InstanceScores | None = None
    """Instance-weighted IoU; None where the data has no instance ids."""

    @property
    def scores(self) -> Scores:
        """The network's own scores."""
        return self.rows[FUSED]

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON; scores are fractions in [0, 1]."""
        return {
            "format": "polyscale-evaluation 1",
            "unit": "scores are fractions from 0 to 1; null is a score that is not defined or was not measured",
            "metadata": self.metadata,
            "rows": {name: scores.to_json() for name, scores in self.rows.items()},
            "attention": None if self.attention is None else self.attention.to_json(),
            "instances": None if self.instances is None else self.instances.to_json(),
        }

    def write(self, folder: str | Path) -> list[Path]:
        """Write ``per_class.csv``, ``attention.csv`` (where there is attention) and, after them, ``scores.json``.

        Of several processes, one should call this.

        Returns:
            The files written.

        Raises:
            UserError: the folder cannot be written.
        """
        folder = Path(folder)
        files = {"per_class.csv": _csv(("row", "class", *_PER_CLASS), self._per_class_rows())}
        if self.attention is not None:
            columns = ("class", *(f"scale {scale:g}" for scale in self.attention.scales))
            files["attention.csv"] = _csv(columns, self._attention_rows(self.attention))
        files["scores.json"] = _json(self.to_json())
        for name, text in files.items():
            with write_atomically(folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="")
        if self.attention is None:
            # An older evaluation's table beside this one's scores would be read as theirs.
            (folder / "attention.csv").unlink(missing_ok=True)
        return [folder / name for name in files]

    def tables(self) -> list[Table]:
        """Tables to print, in percent: rows, classes, each class's IoU in every row if there are several, attention."""
        tables = [self._overview(), self._classes()]
        if len(self.rows) > 1:
            tables.append(self._comparison())
        if self.attention is not None and len(self.attention.scales) > 1:
            columns = ("class", *(f"{scale:g}x" for scale in self.attention.scales))
            rows = [(str(name), *map(_percent, shares)) for name, *shares in self._attention_rows(self.attention)]
            title = "Mean share of each scale in the result, by true class (%)"
            tables.append(Table(title, columns, tuple(rows)))
        if self.instances is not None:
            tables.append(_instances(self.instances))
        return tables

    def _overview(self) -> Table:
        columns = ("", "mIoU", "pixel acc.", "class acc.", "F1", "freq. w. IoU", "boundary IoU", "ECE")
        rows = []
        for name, scores in self.rows.items():
            values = (
                scores.mean_iou,
                scores.pixel_accuracy,
                scores.mean_accuracy,
                scores.mean_f1,
                scores.frequency_weighted_iou,
                scores.mean_boundary_iou,
                scores.expected_calibration_error,
            )
            rows.append((name, *(_percent(value, 2) for value in values)))
        return Table("Scores (%)", columns, tuple(rows), self._absent())

    def _classes(self) -> Table:
        scores = self.scores
        rows: list[tuple[str, ...]] = []
        for name, entry in scores.per_class().items():
            share = scores.pixels[len(rows)] / scores.num_pixels if scores.num_pixels else None
            rows.append((name, _percent(share, 2), *(_percent(entry[key]) for key in _PER_CLASS[1:])))
        columns = ("class", "of pixels", "IoU", "precision", "recall", "F1", "boundary IoU")
        return Table("Classes (%)", columns, tuple(rows), self._absent())

    def _comparison(self) -> Table:
        values = zip(*(scores.iou for scores in self.rows.values()), strict=True)
        rows = [(name, *map(_percent, iou)) for name, iou in zip(self.scores.classes, values, strict=True)]
        return Table("IoU of each class (%)", ("class", *self.rows), tuple(rows))

    def _absent(self) -> str:
        absent = self.scores.absent
        return f"in neither truth nor prediction, left out of the means: {', '.join(absent)}" if absent else ""

    def _per_class_rows(self) -> Iterable[Sequence[Any]]:
        for row, scores in self.rows.items():
            for name, entry in scores.per_class().items():
                yield (row, name, *(entry[key] for key in _PER_CLASS))

    def _attention_rows(self, table: AttentionTable) -> Iterable[Sequence[Any]]:
        nothing = (None,) * len(table.scales)
        for name, shares in zip(table.classes, table.per_class, strict=True):
            yield (name, *(shares or nothing))
        yield ("all pixels", *(table.overall or nothing))


def _instances(scores: InstanceScores) -> Table:
    rows = [(name, _percent(value), f"{scores.objects[name]:,}") for name, value in scores.classes.items()]
    rows.append(("mean of classes", _percent(scores.mean_classes), f"{sum(scores.objects.values()):,}"))
    rows += [(name, _percent(value), "") for name, value in scores.categories.items()]
    rows.append(("mean of categories", _percent(scores.mean_categories), ""))
    return Table("Instance-weighted IoU (iIoU, %)", ("class", "iIoU", "objects"), tuple(rows))


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f}"


def _csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def _json(value: Any) -> str:
    """Indented, but with a list of plain values on one line: a confusion matrix then looks like one."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return re.sub(r"\[\n[^\[\]{}]*\n\s*\]", lambda found: re.sub(r"\n\s*", " ", found.group()), text) + "\n"
