"""The results of an audit: JSON, CSV, tables for the screen, and thresholds as an option of ``polyscale autolabel``."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from polyscale.autolabel.audit import Audit, ClassQuality
from polyscale.files import check_folder, write_atomically

__all__ = ["AuditTable", "audit_tables", "curve_rows", "to_json", "usable_thresholds", "write_audit"]

UNREACHED = 1.0
"""The threshold of a class that is precise enough at no stored level. It keeps labels that were given, and of the
teacher's only those of probability 1.
"""


class AuditTable(NamedTuple):
    """A table to print; numbers are percent."""

    title: str
    columns: list[str]
    rows: list[list[Any]]
    note: str = ""


def usable_thresholds(found: Audit, precision: float) -> dict[str, float]:
    """A threshold for each class as ``--threshold`` takes it; see ``Audit.wanted`` and ``UNREACHED``."""
    return {name: UNREACHED if value is None else value for name, value in found.wanted(precision).items()}


def threshold_option(thresholds: dict[str, float]) -> str:
    """Thresholds by class as one argument of ``polyscale autolabel --threshold``."""
    return ",".join(f"{name}={value:g}" for name, value in thresholds.items())


def curve_rows(found: Audit) -> Iterator[dict[str, Any]]:
    """One row for each threshold and class, "(all)" last; those of the labels as stored come first, threshold None."""
    for threshold in (None, *found.thresholds):
        for quality in found.at(threshold):
            yield {"threshold": threshold, **_row(quality)}


def _row(quality: ClassQuality) -> dict[str, Any]:
    return {
        "class": quality.name,
        "precision": quality.precision,
        "coverage": quality.coverage,
        "recall": quality.recall,
        "kept_as": quality.kept_as,
        "right": quality.right,
        "true": quality.true,
        "kept": quality.kept,
    }


def to_json(found: Audit, precision: float) -> dict[str, Any]:
    """Everything that was counted, and what follows from it, as plain values."""
    curve = {} if found.counts is None else {"wanted_precision": precision, "thresholds": found.wanted(precision)}
    if curve:
        usable = usable_thresholds(found, precision)
        curve["threshold_option"] = threshold_option(usable)
        curve["at_thresholds"] = [_row(quality) for quality in found.at_each(usable)]
    return {
        "label_space": found.label_space.name,
        "classes": list(found.label_space.names),
        "num_images": len(found.images),
        "num_images_without_truth": found.num_without_truth,
        **curve,
        "rows": list(curve_rows(found)),
        "confusions": [{"true": true, "label": label, "pixels": n} for true, label, n in found.confusions(50)],
        "worst_images": [image._asdict() for image in found.images[:50]],
        "counts": {
            "axes": ["true class", "label, the last is none", "confidence level"],
            "levels": list(found.levels),
            "table": None if found.counts is None else found.counts.tolist(),
            "stored": found.stored.tolist(),
        },
    }


def write_audit(found: Audit, out: Path, precision: float) -> list[Path]:
    """Write ``audit.json`` and ``audit.csv``.

    Raises:
        UserError: the folder cannot be written.
    """
    check_folder(out)
    paths = [out / "audit.json", out / "audit.csv"]
    with write_atomically(paths[0]) as temporary:
        temporary.write_text(json.dumps(to_json(found, precision), ensure_ascii=False) + "\n", encoding="utf-8")
    rows = list(curve_rows(found))
    with write_atomically(paths[1]) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return paths


def audit_tables(found: Audit, precision: float) -> list[AuditTable]:
    """Each class as stored and at the thresholds for the wanted precision, the curve of all classes, and confusions."""
    stored = found.at()
    wanted = found.wanted(precision) if found.counts is not None else {}
    columns = ["class", "true %", "precision", "coverage", "recall"]
    rows = [[q.name, _percent(q.true / (stored[-1].true or 1)), *_three(q)] for q in stored]
    notes = []
    if wanted:
        columns += [f"threshold for {100 * precision:g}", "precision then", "coverage then", "recall then"]
        for row, then in zip(rows, found.at_each(usable_thresholds(found, precision)), strict=True):
            threshold = wanted.get(str(row[0]))
            row += [None if threshold is None else f"{threshold:g}", *_three(then)]
        never = [name for name, value in wanted.items() if value is None]
        if never:
            notes.append(f"no threshold gives {100 * precision:g} % to {', '.join(never)} (--drop leaves a class out)")
    if found.num_without_truth:
        notes.append(f"{found.num_without_truth} auto-labelled images have no truth and are not counted")
    tables = [AuditTable(f"Labels as stored, {len(found.images)} images, percent", columns, rows, "; ".join(notes))]
    if found.thresholds:
        all_classes = [(threshold, found.at(threshold)[-1]) for threshold in found.thresholds]
        curve = [[f"{threshold:g}", *_three(quality)] for threshold, quality in all_classes]
        tables.append(AuditTable("All pixels at each threshold, percent", ["threshold", *columns[2:5]], curve))
    confusions = [[true, label, n, _percent(n / (stored[-1].kept_as or 1))] for true, label, n in found.confusions()]
    if confusions:
        headings = ["true class", "labelled as", "pixels", "% of labelled pixels"]
        tables.append(AuditTable("Most frequent mistakes", headings, confusions))
    return tables


def _three(quality: ClassQuality) -> list[float | None]:
    return [_percent(quality.precision), _percent(quality.coverage), _percent(quality.recall)]


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
