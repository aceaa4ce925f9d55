"""``polyscale predict``: pictures of what a network sees in images."""

from pathlib import Path
from typing import Annotated

import typer

from polyscale.cli import options
from polyscale.cli.display import open_bar, say
from polyscale.errors import UserError

__all__ = ["predict_command"]

DEFAULT = "streets"


def predict_command(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="[NETWORK] PATHS…",
            help="A network (a .safetensors file, a run's folder, or a name that `polyscale models` lists; by default "
            f"{DEFAULT}), then image files, folders, or patterns in quotes.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the results.")] = Path("predictions"),
    scales: options.Scales = None,
    flip: options.Flip = False,
    adaptive: options.Adaptive = None,
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="KIND,…", help="Write only these of labels, overlay, confidence, attention."),
    ] = None,
    tile: options.Tile = None,
    overlap: options.Overlap = None,
    bands: options.Bands = None,
    device: options.Device = None,
    precision: options.Precision = options.NumberType.float32,
    trust: options.Trust = None,
) -> None:
    """Label images of any size and kind.

    Writes for each image, at its own size: the class of each pixel as index PNG, a colour overlay, the confidence, and
    how much each scale was trusted. An image for which memory does not suffice is looked at in tiles, which is told.
    Images that cannot be read are skipped and named, and the exit status is then 1, or 2 where nothing could be
    predicted.

    Example: polyscale predict runs/first photos/ --out predictions
    """
    wanted, tiles = options.parse_scales(scales), options.parse_tiles(tile, overlap)
    chosen_bands = options.parse_bands(bands)
    import polyscale
    from polyscale.inference.files import find_images, predict_files
    from polyscale.inference.prediction import OUTPUTS, check_outputs

    network, paths, by_default = options.take_network(paths, DEFAULT)
    if not paths:
        raise UserError(f"{network} is a network; name images after it, such as photo.jpg")
    outputs = OUTPUTS if only is None else tuple(part.strip() for part in only.split(",") if part.strip())
    check_outputs(outputs)
    found = find_images(paths, out)  # a wrong path is told before the network is loaded
    predictor = polyscale.load(network, device, precision.value, trust or (), adaptive)
    if by_default:
        say(f"with {DEFAULT}, which ships with Polyscale; name another network before the images")
    alone = len(found) == 1
    bar = open_bar("predicting", "tiles" if alone else "images")

    def report(line: str) -> None:
        with bar.pause():
            say(line)

    try:
        summary = predict_files(
            predictor,
            paths,
            out,
            wanted,
            flip,
            outputs,
            None if alone else bar.update,
            None if alone else report,
            tiles=tiles,
            bands=chosen_bands,
            told=report,
            tile_progress=bar.update if alone else None,
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
