"""A whole report: evaluations and runs in, one HTML page out, more images in files beside it."""

import base64
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment

import polyscale
from polyscale.errors import UserError
from polyscale.files import write_atomically
from polyscale.intervals import Marginals, mean_iou
from polyscale.pictures import HEAT_COLORS
from polyscale.report import embed, runs, sections, sureness
from polyscale.report.arithmetic import marginals
from polyscale.report.chart import nice_ticks
from polyscale.report.page import template_environment
from polyscale.report.palettes import distinct_colors
from polyscale.report.stored import Stored, undamaged
from polyscale.report.verdict import verdict
from polyscale.report.ways import (
    FUSED,
    ORACLE,
    SCALE_COLORS,
    against,
    label_space,
    map_name,
    mixed_scales,
    short,
)

__all__ = ["STAGE", "page_environment", "script", "script_hash", "write_report"]

Part = dict[str, Any]

STAGE = ("decode", "fusion", "palette", "layers", "stage", "loupe", "mixer", "controls")
"""The programs of the stage, in this order, each in ``templates/js``."""

REPORT = (*STAGE, "film", "panels", "main")


def write_report(
    out: str | Path, stored: Sequence[Stored], command: Sequence[str] = (), heading: str | None = None
) -> list[Path]:
    """Write the page, and beside it a folder of data where it has more images than it should hold itself.

    Args:
        out: the page's file.
        stored: evaluations and runs; the page is about the first that was evaluated.
        command: that asked for it, for the record.
        heading: the page's title.

    Returns:
        What was written.

    Raises:
        UserError: nothing was given, a file cannot be written or read, or an evaluation is damaged.
    """
    if not stored:
        raise UserError("nothing to report on; name a run's or an evaluation's folder")
    out = Path(out)
    if out.is_dir():
        raise UserError(f"cannot write {out}: it is a folder; name the page in it, for example {out / 'report.html'}")
    first = next((one for one in stored if one.scores is not None), stored[0])
    with undamaged(", ".join(str(one.folder) for one in stored[:3])):
        return _write(out, stored, first, command, heading)


def _write(
    out: Path, stored: Sequence[Stored], first: Stored, command: Sequence[str], heading: str | None
) -> list[Path]:
    beside = out.with_name(f"{out.stem}_files")
    group = [one for one in stored if one.name == first.name]
    group = [first, *(one for one in group if one is not first)]
    others: dict[str, list[Stored]] = {}
    for one in stored:
        if one.name != first.name:
            others.setdefault(one.name, []).append(one)
    claims, table = verdict(group, others)
    pictures = _pictures(first, beside)
    nothing: Part = {
        "film": [],
        "data": {},
        "mixer": [],
        "embedded": {},
        "strips": {},
        "colors": _colors(first),
        "beside": None,
    }
    program = script(REPORT)
    text = page_environment().get_template("report.html.j2").render(
        heading=heading or f"{first.name}: where it fails and which scale it trusts",
        claims=claims,
        differences=table,
        controls=[name for name, other in others.items() if other[0].scores],
        ways=_ways([group, *others.values()]),
        classes=sections.classes(first),
        sizes=sections.sizes(first),
        trust=sections.trust(first),
        rescued=sections.rescued(first),
        confusion=sections.confusion(first),
        large=sections.large_regions(first),
        boundary=sections.boundary(first),
        sureness=sureness.sureness(first),
        coverage=sureness.coverage(first),
        scores=_scores(first),
        curves=runs.curves(stored),
        run_names=runs.legend(stored),
        config=runs.config_differences(stored),
        footer=runs.footer(first, shlex.join(command), polyscale.__version__),
        version=polyscale.__version__,
        scripts=program if pictures else "",
        script_hash=script_hash(program),
        live=False,
        rival=against(first.rival) if first.rival else None,
        **(pictures or nothing),
    )  # fmt: skip
    with write_atomically(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return [out, *([beside] if pictures and pictures["beside"] else [])]


def script(names: Sequence[str]) -> str:
    """A page's program: every file in one function, so that nothing of it is seen from outside."""
    folder = Path(__file__).with_name("templates") / "js"
    body = "\n".join((folder / f"{name}.js").read_text(encoding="utf-8") for name in names)
    return f'(() => {{\n"use strict";\n{body}\n}})();'


def script_hash(text: str) -> str:
    """What the content security policy knows a script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def page_environment() -> Environment:
    """Environment of the page templates; percent and signed print numbers."""
    return template_environment(percent=_percent, signed=_signed)


def _percent(value: float | None, digits: int = 1) -> str:
    """A number that is in percent already; a dash for None."""
    return "\N{EN DASH}" if value is None else f"{value:.{digits}f}"


def _signed(value: float, digits: int = 1) -> str:
    """A fraction in percent with its sign."""
    return f"{100 * value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _ways(groups: Sequence[Sequence[Stored]]) -> Part | None:
    """The dot plot: a row for each way of combining scales of each network, a dot for each run, one axis for all."""
    rows: list[Part] = []
    several = sum(group[0].scores is not None for group in groups) > 1
    for group in groups:
        first = group[0]
        if first.scores is None:
            continue
        for name in [*first.others, FUSED, *([ORACLE] if first.about and ORACLE in first.about["rows"] else [])]:
            values = [value for one in group if (value := _value(one, name)) is not None]
            if values:
                row = {**sections.way(first, name), "values": [100 * value for value in values], "group": ""}
                row["mean"] = sum(row["values"]) / len(values)
                rows.append({**row, "group": first.name if several else ""})
    if not rows:
        return None
    return {"rows": rows, **_axis([value for row in rows for value in row["values"]])}


def _value(stored: Stored, row: str) -> float | None:
    if row == ORACLE:
        if stored.about is None or ORACLE not in stored.about["rows"]:
            return None
        found = marginals(stored.counts, len(stored.about["rows"]), len(stored.about["classes"]))
        total = Marginals(*(array.sum(0) for array in found))
        return float(mean_iou(total)[stored.about["rows"].index(ORACLE)])
    value = ((stored.scores or {}).get("rows", {}).get(row) or {}).get("mean_iou")
    return None if value is None else float(value)


def _axis(values: Sequence[float]) -> Part:
    """One axis for all dots, with round ends."""
    ticks = nice_ticks(min(values), max(values), 5)
    return {"low": ticks[0], "high": ticks[-1], "ticks": ticks}


def _colors(first: Stored) -> Part:
    """Class colours of the page: those that stay apart, and the data set's own."""
    if first.about is None:
        return {"names": [], "distinct": [], "own": []}
    own = tuple(tuple(color) for color in first.about["colors"])
    return {
        "names": list(first.about["classes"]),
        "distinct": [list(c) for c in distinct_colors(own)],
        "own": [list(c) for c in own],
    }


def _pictures(first: Stored, beside: Path) -> Part | None:
    """Everything that the page shows of images; None where the evaluation stored none."""
    if first.about is None or not first.counts or not first.about["images"]:
        return None
    about = first.about
    items = embed.film(first)
    order = embed.default_order(items)
    shown = [k for k in order if items[k]["stored"]]
    held = set(shown[: embed.MOST_EMBEDDED])
    many = len(items) > embed.MOST_THUMBNAILS
    colors = _colors(first)
    space = label_space({**about, "colors": colors["distinct"]})
    embedded: dict[int, Part] = {}
    views: dict[int, Part] = {}
    strips = {}
    for k, item in enumerate(items):
        entry = about["images"][k]
        small = first.file(entry["thumbnail"])
        if many:
            name = f"{k:06d}.jpg"
            _copy(small, beside / name)
            item["thumbnail"] = f"{beside.name}/{name}"
        else:
            item["thumbnail"] = embed.thumbnail_uri(small)
        if not item["stored"]:
            continue
        data = embed.image_data(first, entry)
        item["logits"] = bool(data["logits"])
        if k in held:
            embedded[k], views[k] = embed.split_views(data)
            strips[k] = embed.strip(first, entry, space)
        else:
            item["file"] = f"{beside.name}/{embed.write_beside(beside, k, data)}"
    left = embed.MOST_BYTES - sum(map(embed.size_of, embedded.values()))
    for k in (k for k in shown if views.get(k, {}).get("files")):
        left -= embed.size_of(views[k])
        if left >= 0:
            embedded[k]["files"] |= views[k]["files"]
        else:
            items[k]["views"] = f"{beside.name}/{embed.write_beside(beside, k, views[k], 'views')}"
    page = {
        "classes": colors["names"],
        "distinct": colors["distinct"],
        "own": colors["own"],
        "scales": [f"{scale:g}" for scale in about["scales"]],
        "weighted": [f"{scale:g}" for scale in about["weighted_scales"]],
        "scale_colors": [list(SCALE_COLORS[k % len(SCALE_COLORS)]) for k in range(len(about["scales"]))],
        "heat": [list(color) for color in HEAT_COLORS],
        "method": about["method"],
        "fusion": about["fusion"],
        "rival": {"map": map_name(first.rival or ""), "name": short(first.rival or "")},
        "images": [{key: value for key, value in item.items() if key != "thumbnail"} for item in items],
        "order": order,
        "coverage": (sureness.coverage(first) or {}).get("curve"),
        "coverage_lowest": (sureness.coverage(first) or {}).get("lowest"),
    }
    mixed = mixed_scales(about["method"], page["scales"], page["weighted"])
    uses_files = many or len(shown) > len(held) or any("views" in item for item in items)
    return {
        "film": [{**items[k], "position": k} for k in order],
        "data": page,
        "embedded": embedded,
        "strips": strips,
        "colors": colors,
        "beside": beside.name if uses_files else None,
        "mixer": mixed if any(item.get("logits") for item in items) else [],
    }


def _copy(source: Path, target: Path) -> None:
    with write_atomically(target) as temporary:
        temporary.write_bytes(source.read_bytes())


def _scores(first: Stored) -> Part | None:
    """The table of all scores, in percent."""
    if first.scores is None:
        return None
    columns = (
        ("mean_iou", "mIoU"),
        ("pixel_accuracy", "Pixel accuracy"),
        ("mean_accuracy", "Class accuracy"),
        ("mean_f1", "F1"),
        ("frequency_weighted_iou", "Weighted IoU"),
        ("mean_boundary_iou", "Boundary IoU"),
        ("expected_calibration_error", "ECE"),
    )
    table: Mapping[str, Any] = first.scores["rows"]
    used = [(key, name) for key, name in columns if any(row.get(key) is not None for row in table.values())]
    return {
        "columns": [name for _, name in used],
        "rows": [
            {
                **sections.way(first, row),
                "values": [None if scores.get(key) is None else 100 * scores[key] for key, _ in used],
            }
            for row, scores in table.items()
        ],
    }
