"""The parts of a report that follow from the counts of one evaluation, as plain values for the template.

A part is None where the evaluation does not hold what it needs. Scores are in percent.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from polyscale.report import arithmetic
from polyscale.report.plot import Series, plot
from polyscale.report.stored import Stored
from polyscale.report.ways import AVERAGE, FUSED, scale_text, short, style, title

__all__ = ["boundary", "classes", "confusion", "large_regions", "rescued", "shown_rows", "sizes", "trust"]

Part = dict[str, Any]

MOST_IN_CELLS = 14
"""Classes for which a confusion matrix prints its numbers."""


def shown_rows(stored: Stored) -> list[str]:
    """Each scale alone, their average and the network's own result, in this order.

    A network that averages has its own result in place of the average.
    """
    rows = stored.others
    singles = sorted((row for row in rows if row.startswith("scale ")), key=lambda row: float(row.split()[1]))
    return [*singles, *([AVERAGE] if AVERAGE in rows else []), FUSED]


def scales(stored: Stored) -> list[float]:
    """All scales that were looked at."""
    metadata = stored.metadata
    return sorted(metadata.get("compared_scales") or metadata.get("scales") or [1.0])


def way(stored: Stored, row: str) -> Part:
    """How a row is named and drawn."""
    return {"row": row, "title": title(row, stored.metadata), "style": style(row, scales(stored))}


def classes(stored: Stored) -> Part | None:
    """IoU of each class in each row on one axis, and in words what is odd."""
    if stored.scores is None:
        return None
    table, total = stored.scores["rows"], stored.scores["rows"][FUSED]["num_pixels"]
    rows = shown_rows(stored)
    items = []
    for position, (name, entry) in enumerate(table[FUSED]["per_class"].items()):
        values = {row: table[row]["per_class"][name]["iou"] for row in rows}
        items.append(
            {
                "position": position,
                "name": name,
                "support": 100 * entry["pixels"] / total if total else None,
                "dots": [
                    {**way(stored, row), "value": 100 * value} for row, value in values.items() if value is not None
                ],
                "fused": None if values[FUSED] is None else 100 * values[FUSED],
                "words": _class_words(stored, position, entry, values),
            }
        )
    return {"items": items, "ways": [way(stored, row) for row in rows]}


def _class_words(stored: Stored, position: int, entry: Mapping[str, Any], values: Mapping[str, float | None]) -> str:
    assert stored.scores is not None
    predicted = sum(row[position] for row in stored.scores["rows"][FUSED]["confusion"])
    if not entry["pixels"]:
        return "not in the truth, but predicted" if predicted else "not in these images"
    if not predicted:
        return "never predicted"
    known = sorted(((value, row) for row, value in values.items() if value is not None), reverse=True)
    if len(known) < 2 or known[0][0] <= 0:
        return ""
    if round(100 * known[0][0], 1) == round(100 * known[1][0], 1):
        return "a tie"
    return "" if known[0][1] == FUSED else f"best: {short(known[0][1])}"


def sizes(stored: Stored) -> Part | None:
    """Recall by how thick the true object is and by the distance to its border."""
    if not stored.counts or stored.about is None:
        return None
    about, counts = stored.about, stored.counts
    rows = [row for row in shown_rows(stored) if row in about["rows"]]
    charts = []
    for key, title_text, names in (
        ("thickness", "Recall by thickness of the true object", _ranges(about["thickness"])),
        ("border", "Recall by distance to the object's border", _ranges(about["border"])),
    ):
        pixels = counts[f"{key}_pixels"]
        recalls = {row: _class_mean(counts[key][about["rows"].index(row)], pixels) for row in rows}
        shares = 100 * pixels.sum(0) / max(1, pixels.sum())
        chart = plot(
            [Series(title(row, stored.metadata), list(enumerate(recalls[row])), style(row, scales(stored)), dots=True)
             for row in rows],
            title_text, "pixels", "Recall %", x_ticks=list(enumerate(names)), x_range=(-0.3, len(names) - 0.7),
        )  # fmt: skip
        charts.append(
            {
                "key": key,
                "title": title_text,
                "chart": chart,
                "names": names,
                "shares": shares.tolist(),
                "rows": [{**way(stored, row), "values": _none(recalls[row])} for row in rows],
            }
        )
    return {"charts": charts, "weights": _weights_by_thickness(stored), "ways": [way(stored, row) for row in rows]}


def _class_mean(right: Any, pixels: Any) -> Any:
    """Mean over classes of recall in each bin, in percent; classes without a pixel there are left out."""
    known = pixels > 0
    recall = np.where(known, right / np.maximum(pixels, 1), 0).sum(0)
    number = known.sum(0)
    return np.where(number > 0, 100 * recall / np.maximum(number, 1), np.nan)


def _weights_by_thickness(stored: Stored) -> Part | None:
    assert stored.about is not None
    weights, pixels = stored.counts["weight_by_thickness"], stored.counts["thickness_pixels"].sum(0)
    if not len(weights):
        return None
    shares = 100 * weights / (np.maximum(pixels, 1) * stored.about["fixed_point"])
    named = stored.about["weighted_scales"]
    bars = [
        {
            "name": name,
            "parts": [
                {"text": scale_text(scale), "style": style(f"scale {scale:g}", scales(stored)), "value": float(value)}
                for scale, value in zip(named, shares[:, k], strict=True)
            ],
        }
        for k, name in enumerate(_ranges(stored.about["thickness"]))
        if pixels[k]
    ]
    return {"bars": bars}


def _ranges(last: Sequence[int]) -> list[str]:
    """Names of bins: 1-2, 3-5, 6-15, 16 and more."""
    starts = [1, *(value + 1 for value in last)]
    named = [str(a) if a == b else f"{a}\N{EN DASH}{b}" for a, b in zip(starts, last, strict=False)]
    return [*named, f"{starts[-1]}+"]


def trust(stored: Stored) -> Part | None:
    """Mean weight of each scale over the pixels of each class."""
    attention = (stored.scores or {}).get("attention")
    if not attention or not attention.get("overall"):
        return None
    named = sorted(attention["overall"], key=float)
    if len(named) < 2:
        return None

    def parts(shares: Mapping[str, float]) -> list[Part]:
        return [
            {
                "text": f"{name}x",
                "style": style(f"scale {name}", scales(stored)),
                "value": 100 * shares[name],
            }
            for name in named
        ]

    bars = [{"name": name, "parts": parts(row)} for name, row in attention["per_class"].items() if row]
    return {"bars": [*bars, {"name": "all pixels", "parts": parts(attention["overall"])}]}


def rescued(stored: Stored) -> Part | None:
    """Pixels that fusion got right and its rival wrong, and the reverse, by class."""
    if not stored.counts or stored.about is None or stored.rival is None:
        return None
    good, bad = (stored.counts[name].sum(0) for name in ("rescued", "spoiled"))
    pixels = stored.counts["thickness_pixels"].sum(1)
    items = []
    for k, name in enumerate(stored.about["classes"]):
        if pixels[k]:
            shares = [100 * float(total[k]) / float(pixels[k]) for total in (good, bad)]
            items.append({"name": name, "rescued": shares[0], "spoiled": shares[1], "position": k})
    largest = max([share for item in items for share in (item["rescued"], item["spoiled"])], default=0) or 1
    total = max(1, int(pixels.sum()))
    return {
        "items": items,
        "largest": largest,
        "rescued": 100 * int(good.sum()) / total,
        "spoiled": 100 * int(bad.sum()) / total,
    }


def confusion(stored: Stored) -> Part | None:
    """The confusion matrix of the network's own result, each row in shares of the true pixels."""
    if stored.scores is None:
        return None
    row = stored.scores["rows"][FUSED]
    matrix = np.array(row["confusion"], dtype=np.int64)
    true = matrix.sum(1, keepdims=True)
    shares = np.where(true > 0, 100 * matrix / np.maximum(true, 1), np.nan)
    return {
        "names": list(row["per_class"]),
        "shares": [_none(line) for line in shares],
        "pixels": matrix.tolist(),
        "numbers": len(matrix) <= MOST_IN_CELLS,
    }


def large_regions(stored: Stored, most: int = 6) -> Part | None:
    """What large regions are taken for, by each row: mistakes of pixels in the thickest bin."""
    if not stored.counts or stored.about is None:
        return None
    about = stored.about
    rows = [row for row in shown_rows(stored) if row in about["rows"]]
    matrices = {row: stored.counts["large_confusion"][about["rows"].index(row)] for row in rows}
    mean = sum(matrices.values())
    pairs = arithmetic.off_diagonal(np.asarray(mean), most)
    items = []
    for true, predicted, _, _ in pairs:
        values = {row: 100 * matrix[true, predicted] / max(1, matrix[true].sum()) for row, matrix in matrices.items()}
        items.append(
            {
                "true": about["classes"][true],
                "predicted": about["classes"][predicted],
                "cells": [{**way(stored, row), "value": float(value)} for row, value in values.items()],
            }
        )
    return {"items": items, "ways": [way(stored, row) for row in rows], "least": about["thickness"][-1] + 1}


def boundary(stored: Stored) -> Part | None:
    """Mean boundary IoU of each row at each width."""
    if not stored.counts or stored.about is None:
        return None
    widths = stored.about["boundary_widths"]
    rows = []
    for k, row in enumerate(stored.about["rows"]):
        if row not in (FUSED, *stored.others):
            continue
        both, either = stored.counts["boundary"][k].transpose(1, 0, 2)
        values = [
            100 * float((b[e > 0] / e[e > 0]).mean()) if (e > 0).any() else None
            for b, e in zip(both, either, strict=True)
        ]
        rows.append({**way(stored, row), "values": values})
    return {"widths": widths, "rows": rows}


def _none(values: Any) -> list[float | None]:
    """Numbers as plain values, None where there is none."""
    return [None if np.isnan(value) else float(value) for value in values]
