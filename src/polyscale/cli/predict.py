"""``polyscale predict``: pictures of what a network sees in images."""

from pathlib import Path
from typing import Annotated

import typer

from polyscale.cli.display import open_bar, say
from polyscale.cli.options import (
    CheckpointArgument,
    DeviceOption,
    FlipOption,
    Precision,
    PrecisionOption,
    ScalesOption,
    TrustOption,
    parse_scales,
)
from polyscale.errors import UserError

__all__ = ["predict_command"]


def predict_command(
    checkpoint: CheckpointArgument,
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATHS…", help="Image files, folders, or patterns in quotes.", show_default=False),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the results.", show_default=False)],
    scales: ScalesOption = None,
    flip: FlipOption = False,
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="KIND,…", help="Write only these of labels, overlay, confidence, attention."),
    ] = None,
    device: DeviceOption = None,
    precision: PrecisionOption = Precision.float32,
    trust: TrustOption = None,
) -> None:
    """Label images of any size and kind.

    Writes for each image, at its own size: the class of each pixel as index PNG, a colour overlay, the confidence, and
    how much each scale was trusted. Images that cannot be read are skipped and named, and the exit status is then 1, or
    2 where nothing could be predicted.
    """
    wanted = parse_scales(scales)
    import polyscale
    from polyscale.inference.files import find_images, predict_files
    from polyscale.inference.prediction import OUTPUTS, check_outputs

    outputs = OUTPUTS if only is None else tuple(part.strip() for part in only.split(",") if part.strip())
    check_outputs(outputs)
    found = find_images(paths, out)  # a wrong path is told before the network is loaded
    predictor = polyscale.load(checkpoint, device, precision.value, trust or ())
    bar = open_bar("predicting")

    def report(line: str) -> None:
        with bar.pause():
            say(line)

    try:
        summary = predict_files(
            predictor, paths, out, wanted, flip, outputs, bar.update, report if len(found) > 1 else None
        )
    finally:
        bar.close()
    if not summary.written:
        path, reason = summary.failures[0]
        named = reason if str(path) in reason else f"{path}: {reason}"
        raise UserError(named if len(found) == 1 else f"none of {len(found)} images could be predicted")
    typer.echo(out)
    if summary.failures:
        say(f"{len(summary.failures)} of {len(found)} images could not be predicted and were skipped")
        raise typer.Exit(1)
