"""How sure the network is and whether rightly: reliability, temperature, and thresholds for auto-labelling."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from polyscale.report.arithmetic import Coverage, coverage_precision, reliability, temperature
from polyscale.report.plot import Series, plot, thinned
from polyscale.report.sections import scales, shown_rows, way
from polyscale.report.stored import Stored
from polyscale.report.ways import style

__all__ = ["coverage", "sureness"]

Part = dict[str, Any]

WANTED = (0.9, 0.95, 0.97, 0.98, 0.99)
"""Precisions that a threshold is named for."""

CLASS_PRECISION = 0.95


def sureness(stored: Stored) -> Part | None:
    """Reliability diagrams of the rows, and what one temperature would mend."""
    if not stored.counts or stored.about is None:
        return None
    about, counts = stored.about, stored.counts
    diagrams = []
    for row in shown_rows(stored):
        if row not in about["rows"]:
            continue
        found = reliability(counts["reliability"][about["rows"].index(row)], about["fixed_point"])
        if found.error is None:
            continue
        name = way(stored, row)
        points = list(zip(found.confidence.tolist(), found.accuracy.tolist(), strict=True))
        sizes = (found.pixels / found.pixels.max()).tolist()
        chart = plot(
            [Series(name["title"], points, style(row, scales(stored)), dots=True, sizes=sizes)],
            name["title"], "confidence", "Share that is right",
            x_range=(0, 1), y_range=(0, 1), diagonal=True, square=True,
        )  # fmt: skip
        diagrams.append({**name, "chart": chart, "error": 100 * found.error})
    scaled = temperature(counts, list(about["temperatures"]), about["fixed_point"])
    return {
        "diagrams": diagrams,
        "temperature": None if scaled is None else scaled.temperature,
        "before": None if scaled is None else 100 * scaled.before,
        "after": None if scaled is None else 100 * scaled.after,
    }


def coverage(stored: Stored) -> Part | None:
    """Precision of the pixels that a threshold of confidence keeps, for all and by predicted class."""
    if not stored.counts or stored.about is None or not stored.counts["levels"].sum():
        return None
    levels = stored.counts["levels"]
    found = coverage_precision(levels.sum(0))
    points = list(zip((100 * found.coverage).tolist(), (100 * found.precision).tolist(), strict=True))
    lowest = min(y for _, y in points)
    chart = plot(
        [Series("all classes", sorted(thinned(points)), "fused")],
        "Precision against coverage", "coverage % of the pixels", "Precision %",
        x_range=(0, 100), y_range=(5 * np.floor(lowest / 5).item(), 100.0), identity="coverage",
    )  # fmt: skip
    table = [row for wanted in WANTED if (row := _threshold(found, wanted)) is not None]
    by_class = _by_class(stored.about["classes"], levels)
    curve = [
        [round(float(t), 4), round(100 * float(c), 1), round(100 * float(p), 1)]
        for t, c, p in zip(found.threshold, found.coverage, found.precision, strict=True)
    ]
    return {
        "chart": chart,
        "curve": curve,
        "lowest": 5 * np.floor(lowest / 5).item(),
        "table": table,
        "by_class": by_class,
        "class_precision": 100 * CLASS_PRECISION,
        "option": ",".join(f"{row['name']}={row['threshold']:g}" for row in by_class if row["threshold"] is not None),
    }


def _threshold(found: Coverage, wanted: float) -> dict[str, float] | None:
    """The lowest threshold from which on every higher one is precise enough too."""
    enough = found.precision >= wanted
    if not enough[-1]:
        return None
    first = len(enough) - int(np.argmin(enough[::-1])) if not enough.all() else 0
    return {
        "wanted": 100 * wanted,
        "threshold": round(float(found.threshold[first]), 4),
        "coverage": 100 * float(found.coverage[first]),
        "precision": 100 * float(found.precision[first]),
    }


def _by_class(names: list[str], levels: Any) -> list[Part]:
    rows: list[Part] = []
    for name, table in zip(names, levels, strict=True):
        if not table.sum():
            continue
        row: Mapping[str, float] | None = _threshold(coverage_precision(table), CLASS_PRECISION)
        rows.append({"name": name, "threshold": None, "coverage": None, **(row or {})})
    return rows
