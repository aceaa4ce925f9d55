"""``polyscale data ranges``: which values of a data set's bands become 0 and 255."""

from pathlib import Path
from typing import Annotated

import typer

from polyscale.errors import UserError

__all__ = ["ranges"]


def ranges(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of images.", show_default=False)],
    percentiles: Annotated[
        str, typer.Option("--percentiles", metavar="LOW,HIGH", help="Of the values of all images together.")
    ] = "1,99",
) -> None:
    """Measure the ranges of an image's bands over a data set, for images of 16 bits or other channels than RGB.

    Prints the key `bands` for the data's YAML. Measure on the training images alone, and use the same for all others.

    Example: polyscale data ranges mydata/images/train
    """
    from polyscale.data.bands import measure_ranges
    from polyscale.data.images import IMAGE_SUFFIXES
    from polyscale.files import walk_files

    try:
        low, high = (float(part) for part in percentiles.split(","))
    except ValueError:
        raise UserError(f"--percentiles must be two numbers, got {percentiles!r}; for example 1,99") from None
    if not 0 <= low < high <= 100:
        raise UserError(f"--percentiles must rise from 0 to 100, got {percentiles!r}; for example 1,99")
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder}")
    paths = [folder / name for name in walk_files(folder, IMAGE_SUFFIXES)]
    if not paths:
        raise UserError(f"there are no images in {folder} ({', '.join(IMAGE_SUFFIXES)})")
    found = measure_ranges(paths, (low, high))
    listed = ", ".join(f"[{a:g}, {b:g}]" for a, b in found)
    typer.echo(f"bands: {{channels: {list(range(1, len(found) + 1))}, ranges: [{listed}]}}")
