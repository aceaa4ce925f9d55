"""``polyscale data``: what a data set contains, and data to try things with."""

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from polyscale.cli import options
from polyscale.cli.data_convert import convert
from polyscale.cli.data_ranges import ranges
from polyscale.cli.display import print_table, progress_bar, say
from polyscale.cli.suspects import suspects
from polyscale.errors import UserError
from polyscale.files import check_folder, write_atomically

if TYPE_CHECKING:
    from polyscale.data import DataReport, SegmentationData
    from polyscale.report import DataSplit

__all__ = ["app"]

NUM_RAREST = 8
"""Classes that the page shows an example of, at most half of them."""

app = typer.Typer(
    help="Check, search, convert or draw a data set.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("convert")(convert)
app.command("suspects")(suspects)
app.command("ranges")(ranges)

_Splits = Annotated[
    str | None, typer.Option("--split", metavar="NAME,…", help="Only these splits. By default all there are.")
]


@app.command("check")
def check(
    data: options.Data,
    split: _Splits = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Label space (YAML) for a folder that has none of its own.")
    ] = None,
    report: Annotated[Path | None, typer.Option("--json", help="Also write the report to this file.")] = None,
    most: Annotated[int, typer.Option(min=1, help="Files to name for each problem; --json lists all.")] = 5,
    workers: options.Workers = None,
) -> None:
    """Read a whole data set and say what is wrong with it.

    Prints what is in it, and finds files that cannot be read, masks that are missing, of another size or with ids
    outside the label space, palettes that differ, images that are in two splits, classes that are absent or rare.
    Suggests a label space to a folder without. The exit status is 0 for usable data, 1 for data that are not, 2 where
    nothing could be checked.
    """
    from polyscale.data import MissingLabelSpaceError, check_splits, list_splits, open_data, suggest_label_space
    from polyscale.labels import LabelSpace

    if report is not None:  # told before the reading, which may take an hour
        if report.is_dir():
            raise UserError(f"cannot write {report}: it is a folder; name the file in it")
        check_folder(report.parent)
    space = None if labels is None else LabelSpace.from_yaml(labels)
    names: tuple[str | None, ...] = list_splits(data) or (None,)
    if split is not None:
        names = tuple(part.strip() for part in split.split(",") if part.strip())
        if not names:
            raise UserError(f"--split names no split, got {split!r}; for example train,val")
    try:
        splits = {name or data: open_data(data, name, space, lenient=True) for name in names}
    except MissingLabelSpaceError:
        with progress_bar("reading masks", "masks") as progress:
            suggestion = suggest_label_space(data, workers=workers, progress=progress)
        typer.echo(suggestion, nl=False)
        raise UserError(
            f"{data} has no label space; the one above was suggested from its masks: name the classes, save it as "
            "label_space.yaml in the folder and check again"
        ) from None
    with progress_bar("reading") as progress:
        reports = check_splits(splits, workers=workers, progress=progress)
    for found in reports.values():
        for table in found.tables(most):
            print_table(*table)
    usable = all(found.usable for found in reports.values())
    if report is not None:
        content = {"data": data, "usable": usable, "splits": [found.to_json() for found in reports.values()]}
        with write_atomically(report) as temporary:
            temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for found in reports.values():
        typer.echo(found.summary())
    if not usable:
        raise typer.Exit(1)


class Like(str, Enum):
    """Layouts in which streets are drawn."""

    plain = "plain"
    cityscapes = "cityscapes"
    cityscapes_nested = "cityscapes-nested"
    mapillary_1_2 = "mapillary-1.2"
    mapillary_2_0 = "mapillary-2.0"


_SIZES = {"plain": (256, 512), "cityscapes": (1024, 2048), "mapillary": (768, 1024)}


@app.command("draw")
def draw(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder, or one drawn before.", show_default=False)],
    train: Annotated[int, typer.Option(min=0, help="Scenes to train on.")] = 200,
    val: Annotated[int, typer.Option(min=0, help="Scenes to validate on.")] = 50,
    test: Annotated[int, typer.Option(min=0, help="Scenes to test on.")] = 0,
    size: Annotated[
        str | None,
        typer.Option(metavar="HEIGHTxWIDTH", help="In pixels. By default 256x512, or that of the data set in --like."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other streets.")] = 0,
    coarse: Annotated[bool, typer.Option("--coarse", help="Add coarse polygon labels of the same scenes.")] = False,
    like: Annotated[
        Like, typer.Option("--like", help="Write folders, names, ids and file types of this data set.")
    ] = Like.plain,
    extra: Annotated[int, typer.Option(min=0, help="With --like cityscapes: scenes with coarse labels alone.")] = 0,
) -> None:
    """Draw street scenes with exact labels.

    They are a data set to try things with. Thin posts need a fine scale there and large plain regions a coarse one. A
    second call draws only what is missing.
    """
    from polyscale.data.streets import write_streets
    from polyscale.data.streets.cityscapes import write_like_cityscapes
    from polyscale.data.streets.mapillary import write_like_mapillary

    kind, _, form = like.value.partition("-")
    if extra and kind != "cityscapes":
        raise UserError("--extra is about --like cityscapes; leave it out")
    if coarse and kind != "plain":
        raise UserError(
            f"--coarse is about plain folders; leave it out, as --like {like.value} decides what is written"
        )
    height_and_width = _SIZES[kind] if size is None else options.parse_size(size)
    splits = {"train": train, "val": val, "test": test, "train_extra": extra}
    splits = {name: count for name, count in splits.items() if count}
    with progress_bar("drawing", "scenes") as progress:
        if kind == "cityscapes":
            drawn = write_like_cityscapes(out, splits, height_and_width, seed, form == "nested", progress)
        elif kind == "mapillary":
            version: Literal["1.2", "2.0"] = "2.0" if form == "2.0" else "1.2"
            drawn = write_like_mapillary(out, splits, height_and_width, seed, version, progress)
        else:
            drawn = write_streets(out, splits, height_and_width, seed, coarse, progress)
    say(f"{drawn} scenes drawn, {sum(splits.values()) - drawn} were there already")
    typer.echo(out)


@app.command("report")
def report(
    data: options.Data,
    split: _Splits = None,
    out: Annotated[Path, typer.Option("--out", help="The page's file.")] = Path("data.html"),
    workers: options.Workers = None,
) -> None:
    """Make one page of what a data set holds.

    Shares and sizes of the classes, where in the frame each lives and beside which others, the rarest with examples,
    and the problems that a check finds.
    """
    from polyscale.data import check_splits, list_splits, open_data
    from polyscale.report import write_data_page

    if out.is_dir():
        raise UserError(f"cannot write {out}: it is a folder; name the file in it")
    check_folder(out.parent)
    names: tuple[str | None, ...] = list_splits(data) or (None,)
    if split is not None:
        names = tuple(part.strip() for part in split.split(",") if part.strip()) or (None,)
    splits = {name or data: open_data(data, name, lenient=True) for name in names}
    with progress_bar("reading") as progress:
        checked = check_splits(splits, workers=workers, progress=progress)
    pages = [_split(name, opened, checked[name], workers) for name, opened in splits.items()]
    typer.echo(write_data_page(out, Path(data).name or data, next(iter(splits.values())).label_space, pages))


def _split(name: str, data: "SegmentationData", checked: "DataReport", workers: int | None) -> "DataSplit":
    """Contents of one split, for a page."""
    import numpy as np

    from polyscale.data.bands import as_rgb
    from polyscale.data.survey import survey
    from polyscale.report import DataExample, DataSplit

    with progress_bar(f"looking at {name}", "masks") as progress:
        found = survey(data, workers, progress)
    pixels = [row.pixels for row in checked.classes]
    total = max(1, sum(pixels))
    most = min(NUM_RAREST, -(-len(pixels) // 2))
    rarest = sorted((k for k, count in enumerate(pixels) if count), key=lambda k: pixels[k])[:most]
    examples = []
    for position in rarest:
        for index in found.examples(position, 1):
            sample = data.read(index)
            if sample.labels is not None:
                examples.append(DataExample(position, sample.name, as_rgb(sample.image), sample.labels))
    return DataSplit(
        name=name,
        num_images=checked.num_images,
        shares=np.array(pixels) / total,
        num_with=found.num_images,
        typical=[found.typical_share(k) for k in range(len(pixels))],
        together=found.together,
        where=found.where,
        sizes=checked.sizes,
        problems=checked.to_json()["problems"],
        examples=examples,
    )
