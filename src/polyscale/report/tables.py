"""From an evaluation's JSON (``scores.json``) to the tables of a page: nothing is scored, only renamed and ordered."""

from collections.abc import Mapping, Sequence
from typing import Any

from polyscale.errors import UserError
from polyscale.labels import LabelSpace
from polyscale.report.data import METRICS, ClassResult, Comparison, Row

__all__ = ["class_results", "comparison"]

MAIN = "fused"
"""Name that an evaluation gives the network's own result."""

_METHODS = {
    "hierarchical": "Hierarchical attention",
    "explicit": "Explicit attention",
    "average": "Average pooling",
    "single": "One scale",
}


def comparison(evaluation: Mapping[str, Any], note: str = "", notes: Mapping[str, str] | None = None) -> Comparison:
    """The rows of an evaluation side by side, the network's own last and marked.

    A metric that was measured for one row only, beside others, has no column.

    Args:
        evaluation: what ``scores.json`` holds.
        note: above the table.
        notes: row name as in the evaluation -> a few words under the row's name.

    Raises:
        UserError: this is not an evaluation.
    """
    table = _rows(evaluation)
    rows = [
        Row(title(name, evaluation), scores, (notes or {}).get(name, ""), main=name == MAIN)
        for name, scores in table.items()
    ]
    least = min(2, len(rows))
    metrics = [m for m in METRICS if sum(row.scores.get(m.key) is not None for row in rows) >= least]
    return Comparison(rows, metrics, note)


def class_results(
    evaluation: Mapping[str, Any], label_space: LabelSpace, rows: Sequence[str] | None = None
) -> list[ClassResult]:
    """IoU of each class in each row, its mean attention and its share of the pixels.

    Args:
        evaluation: what ``scores.json`` holds.
        label_space: of its classes, for the colours.
        rows: which rows, by their names in the evaluation; by default all, the network's own last.

    Raises:
        UserError: this is not an evaluation, or it lacks a row or a class.
    """
    table = _rows(evaluation)
    chosen = list(table) if rows is None else list(rows)
    attention = (evaluation.get("attention") or {}).get("per_class", {})
    results = []
    try:
        for item in label_space.classes:
            pixels, total = table[MAIN]["per_class"][item.name]["pixels"], table[MAIN]["num_pixels"]
            results.append(
                ClassResult(
                    item.name,
                    item.color,
                    {title(row, evaluation): table[row]["per_class"][item.name]["iou"] for row in chosen},
                    {float(scale): share for scale, share in (attention.get(item.name) or {}).items()},
                    pixels / total if total else None,
                )
            )
    except KeyError as error:
        raise UserError(f"the evaluation has no row or class {error}; it has rows {', '.join(table)}") from None
    return results


def title(row: str, evaluation: Mapping[str, Any]) -> str:
    """A row's name as a page prints it: "scale 0.5" is "0.5x alone", "fused" the name of the network's method."""
    if row == MAIN:
        method = str(evaluation.get("metadata", {}).get("method", MAIN))
        return _METHODS.get(method, method.capitalize())
    if row.startswith("scale "):
        return f"{row.removeprefix('scale ')}x alone"
    return row[:1].upper() + row[1:]


def _rows(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The evaluation's rows, the network's own last."""
    rows = evaluation.get("rows")
    if not isinstance(rows, Mapping) or MAIN not in rows:
        raise UserError(f"not an evaluation: it needs 'rows' with {MAIN!r} among them; give what scores.json holds")
    return {**{name: scores for name, scores in rows.items() if name != MAIN}, MAIN: rows[MAIN]}
