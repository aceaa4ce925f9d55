"""``polyscale autolabel audit``: how far auto-labels can be trusted, as tables, files and one page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyscale.cli.display import print_table, progress_bar, say, say_written
from polyscale.errors import UserError

if TYPE_CHECKING:
    from polyscale.autolabel.audit import Audit, ClassQuality, Disagreement
    from polyscale.data import SegmentationData
    from polyscale.report import Curve, Example

__all__ = ["audit_command"]

_NONE = "\N{EN DASH}"


def audit_command(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that `polyscale autolabel` wrote.", show_default=False)
    ],
    truth: Annotated[
        str,
        typer.Option(
            "--truth", metavar="DATA", help="The same images with true labels: a folder, FOLDER:SPLIT or YAML."
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the results. By default DIR/audit.")] = None,
    precision: Annotated[
        float,
        typer.Option("--precision", help="Precision, above 0 to 1, that the thresholds of the classes shall give."),
    ] = 0.95,
    worst: Annotated[int, typer.Option("--worst", min=0, help="Images to show on the page, the worst ones.")] = 8,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Threads.")] = None,
) -> None:
    """Compare auto-labels with true ones: precision and coverage of each class at every threshold.

    Needs the folder's confidence maps (autolabel --confidence) for thresholds other than the one it was made with.
    Writes audit.json, audit.csv and audit.html with the curves and the worst disagreements, and prints the thresholds
    that give each class the wanted precision as an option of autolabel.
    """
    from polyscale.autolabel.audit import audit
    from polyscale.autolabel.audit_files import audit_tables, threshold_option, usable_thresholds, write_audit
    from polyscale.data import open_data

    if not 0 < precision <= 1:
        raise UserError(f"--precision must be above 0 and at most 1, got {precision:g}; for example 0.95")
    if not (folder / "autolabel.json").is_file():
        raise UserError(f"{folder} holds no auto-labels (no autolabel.json); give a folder of `polyscale autolabel`")
    data = open_data(truth)
    with progress_bar("comparing") as progress:
        found = audit(folder, data, workers, progress)
    place = out or folder / "audit"
    written = write_audit(found, place, precision)
    _write_page(place / "audit.html", found, folder, truth, data, precision, worst)
    for table in audit_tables(found, precision):
        print_table(*table)
    say_written([*written, place / "audit.html"])
    if found.counts is None:
        say("no curve and no thresholds: the labels have no confidence maps; make them with autolabel --confidence")
    else:
        typer.echo(f'--threshold "{threshold_option(usable_thresholds(found, precision))}"')


def _write_page(
    path: Path, found: "Audit", folder: Path, truth_name: str, truth: "SegmentationData", precision: float, worst: int
) -> None:
    from polyscale.autolabel.audit_files import audit_tables
    from polyscale.data import open_data
    from polyscale.report import Card, ClassResult, PageData, Table, write_page

    everything = found.at()[-1]
    auto = open_data(folder)
    page = PageData(
        title=f"Audit of the auto-labels in {folder.name}",
        summary=(
            f"Of the pixels that are labelled, {_shown(everything.precision)} % are right; "
            f"{_shown(everything.coverage)} % of the pixels with a truth are labelled."
        ),
        cards=[
            Card("Precision", f"{_shown(everything.precision)} %", "of the pixels that are labelled"),
            Card("Coverage", f"{_shown(everything.coverage)} %", "of the pixels with a truth"),
            Card("Images", f"{len(found.images)}", f"{found.num_without_truth} more have no truth"),
        ],
        tables=[
            Table(title, columns, [[_cell(cell) for cell in row] for row in rows], note)
            for title, columns, rows, note in audit_tables(found, precision)
        ],
        curves=_curves(found),
        curves_title="Precision over coverage",
        curves_note=(
            "Each dot is a threshold, the lowest at the right. Precision: share of the pixels labelled as a class that "
            "are of it. Coverage, along the bottom in percent: share of its true pixels that have any label."
        ),
        examples=[_example(auto, truth, folder, image, bool(found.levels)) for image in found.images[:worst]],
        classes=[ClassResult(item.name, item.color) for item in auto.label_space.classes],
        details={"auto-labels": str(folder), "truth": truth_name},
    )
    write_page(path, page)


def _curves(found: "Audit") -> list["Curve"]:
    from polyscale.report import Curve

    curves = []
    by_threshold = [found.at(threshold) for threshold in found.thresholds]
    for place, name in enumerate((*found.label_space.names, "(all)")):
        points = sorted(point for qualities in by_threshold if (point := _point(qualities[place])) is not None)
        if len(points) > 1:
            curves.append(Curve("All pixels" if name == "(all)" else name, points, "percent", x_name="coverage"))
    return curves[-1:] + curves[:-1]


def _point(quality: "ClassQuality") -> tuple[float, float] | None:
    if quality.precision is None or quality.coverage is None:
        return None
    return 100 * quality.coverage, quality.precision


def _example(
    auto: "SegmentationData", truth: "SegmentationData", folder: Path, image: "Disagreement", confident: bool
) -> "Example":
    import numpy as np
    from PIL import Image

    from polyscale.autolabel.confidence import read_confidence
    from polyscale.labels import IGNORE
    from polyscale.pictures import error_map, heat_map
    from polyscale.report import Example, Picture, Strip

    sample, true = auto.read(image.auto_index), truth.read(image.truth_index).labels
    labels = sample.labels
    assert labels is not None
    assert true is not None
    space = auto.label_space
    seen = np.where(labels == IGNORE, np.uint8(IGNORE), true)  # what has no label is no mistake
    pictures = [
        Picture("Image", Image.fromarray(sample.image)),
        Picture("Truth", Image.fromarray(space.colorize(true))),
        Picture("Auto-label", Image.fromarray(space.colorize(labels))),
        Picture("Error", error_map(sample.image, labels, seen), f"Errors in {image.name}: wrong pixels are red"),
    ]
    strips = [Strip(pictures)]
    if confident:
        strips.append(Strip([Picture("Confidence", heat_map(read_confidence(folder, image.name)))], heat=True))
    share = _shown(image.wrong / image.kept if image.kept else None)
    return Example(image.name, strips, f"{image.wrong:,} of {image.kept:,} labelled pixels are wrong ({share} %).")


def _shown(value: float | None) -> str:
    return _NONE if value is None else f"{100 * value:.1f}"


def _cell(value: object) -> str:
    if value is None:
        return _NONE
    return f"{value:.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
