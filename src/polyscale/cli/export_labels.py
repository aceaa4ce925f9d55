"""``polyscale export-labels``: labels for a person to correct."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from polyscale.cli import options
from polyscale.cli.display import progress_bar, say
from polyscale.errors import UserError

__all__ = ["export_labels_command"]


class AnnotationTool(str, Enum):
    """Tools whose form is written."""

    coco = "coco"
    yolo = "yolo"
    cvat = "cvat"
    label_studio = "label-studio"
    supervisely = "supervisely"
    fiftyone = "fiftyone"


def export_labels_command(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="DIR",
            help="A data set, a folder of auto-labels, or a folder that predict wrote (with --images).",
            show_default=False,
        ),
    ],
    tool: Annotated[AnnotationTool, typer.Option("--to", help="Whose form to write.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="A new or empty folder.", show_default=False)],
    split: Annotated[str | None, typer.Option("--split", help="Only this split.")] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="The folder of images that predict was given.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Leave out corners within so many pixels of a line. 0 keeps every pixel.")
    ] = 0.0,
    smallest: Annotated[int, typer.Option(min=1, help="Leave out regions of fewer pixels.")] = 1,
    workers: options.Workers = None,
) -> None:
    """Write labels for a person to correct in an annotation tool.

    Each region becomes a polygon along the borders of its pixels, for Supervisely a bitmap; FiftyOne gets masks.
    `polyscale data convert` of the corrected file gives the same pixels again where nothing was changed.
    """
    from polyscale.data import FolderConfig, open_data
    from polyscale.data.annotations.write import export_labels

    predicted = Path(folder) / "predictions.yaml"
    if predicted.is_file():
        if images is None:
            raise UserError(f"{folder} holds predictions without their images; name the images' folder with --images")
        config = FolderConfig(
            root=Path(folder),
            image=f"{images.expanduser().resolve().as_posix()}/{{name}}",
            mask="labels/{name}.png",
            masks="optional",
        )
        data = open_data(config, split)
        data.items = [item for item in data.items if item.mask is not None]
        if not data.items:
            raise UserError(f"no image in {images} has a prediction in {folder}; name what predict was given")
    else:
        if images is not None:
            raise UserError(f"--images is about a folder that predict wrote, and {folder} is none; leave it out")
        data = open_data(folder, split)
    with progress_bar("exporting") as progress:
        path = export_labels(
            data, out, tool.value, tolerance=tolerance, smallest=smallest, workers=workers, progress=progress
        )
    say(f"{len(data)} images with the classes {', '.join(data.label_space.names[:8])}")
    typer.echo(path)
