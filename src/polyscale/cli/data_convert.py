"""``polyscale data convert``: labels of any form as a plain folder."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from polyscale.cli import options
from polyscale.cli.display import progress_bar, say
from polyscale.errors import UserError
from polyscale.files import check_folder

__all__ = ["convert"]


class LabelForm(str, Enum):
    """Forms of labels."""

    coco = "coco"
    yolo = "yolo"
    labelme = "labelme"
    cvat = "cvat"
    label_studio = "label-studio"
    supervisely = "supervisely"
    parquet = "parquet"
    arrays = "arrays"
    masks = "masks"


class Overlap(str, Enum):
    """Which region wins."""

    small_on_top = "small-on-top"
    file = "file"


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A JSON, XML or parquet file, a folder, or FOLDER:SPLIT.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new or empty folder.", show_default=False)],
    form: Annotated[
        LabelForm | None, typer.Option("--from", help="What the source is. By default its files tell.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of the images, if they lie elsewhere.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", metavar="NAME,…", help="Only these, in this order. By default all.")
    ] = None,
    background: Annotated[
        str, typer.Option("--background", metavar="NAME", help="Class of pixels in no region; 'ignore' ignores them.")
    ] = "background",
    overlap: Annotated[
        Overlap | None,
        typer.Option("--overlap", help="Where regions overlap: the smaller one on top, or the later one in the file."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option("--labels", metavar="SPACE", help="Label space of masks without one: YAML or a name.")
    ] = None,
    binary: Annotated[
        str | None, typer.Option("--binary", metavar="NAME", help="Masks of 0 and 255: the class that 255 is.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="IMAGE,MASK", help="Columns of a parquet file.")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Write into this split. By default as the source has them.")
    ] = None,
    link: Annotated[bool, typer.Option("--link", help="Link to image files rather than copy them.")] = False,
    workers: options.Workers = None,
) -> None:
    """Write labels of any form as a plain folder: images/, masks/ and label_space.yaml.

    Reads COCO's instance JSON, YOLO's polygons, LabelMe, CVAT's XML, Label Studio's JSON, Supervisely's projects,
    parquet tables of Hugging Face, arrays (.npy, .npz, .mat), and every data set that the other commands read, among
    them colour-coded and binary masks. Regions are drawn one over the other: by default the smaller on top, in CVAT and
    Supervisely by layer and then as they stand in the file.
    """
    from polyscale.data.convert import binary_space, named_space, open_source, write_plain

    if binary is not None and labels is not None:
        raise UserError("--binary and --labels both say what ids mean; give one of them")
    if out.is_dir() and any(not entry.name.startswith(".") for entry in out.iterdir()):
        raise UserError(f"{out} is not empty; choose a new folder")
    check_folder(out)
    space = binary_space(binary) if binary is not None else named_space(labels) if labels is not None else None
    pair = None if columns is None else tuple(part.strip() for part in columns.split(","))
    if pair is not None and len(pair) != 2:
        raise UserError(f"--columns names two columns, image and mask, got {columns!r}; for example image,annotation")
    parts = open_source(
        Path(source),
        None if form is None else form.value,
        images=images,
        classes=tuple(part.strip() for part in (classes or "").split(",") if part.strip()),
        background=None if background == "ignore" else background,
        order=None if overlap is None else overlap.value,
        label_space=space,
        columns=None if pair is None else (pair[0], pair[1]),
    )
    if split is not None and len(parts) > 1:
        raise UserError(f"{source} has the splits {', '.join(map(str, parts))}; convert one of them, {source}:SPLIT")
    for name, data in parts.items():
        with progress_bar("converting" if name is None else f"converting {name}") as progress:
            write_plain(data, out, split or name, link, workers, progress)
    total = sum(len(data) for data in parts.values())
    names = next(iter(parts.values())).label_space.names
    say(f"{total} images with the classes {', '.join(names[:8])}{' and more' if len(names) > 8 else ''}")
    typer.echo(out)
