"""``polyscale export``: a network as a file for other runtimes."""

from pathlib import Path
from typing import Annotated

import typer

from polyscale.cli.display import say
from polyscale.cli.options import CheckpointArgument, ScalesOption, TrustOption, parse_scales, parse_size
from polyscale.errors import UserError
from polyscale.files import check_folder

__all__ = ["export_command"]


def export_command(
    checkpoint: CheckpointArgument,
    out: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="What to write: .onnx, or .pt2 for torch.export.", show_default=False),
    ],
    scales: ScalesOption = None,
    size: Annotated[
        str, typer.Option("--size", metavar="HxW", help="Of all images, or dynamic: images of any size.")
    ] = "dynamic",
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Compare with the network; leave no file where it differs.")
    ] = True,
    int8: Annotated[bool, typer.Option("--int8", help="Convolutions in numbers of 8 bits; needs --calibrate.")] = False,
    calibrate: Annotated[
        Path | None, typer.Option("--calibrate", metavar="DIR", help="With --int8: a folder of typical images.")
    ] = None,
    num_images: Annotated[int, typer.Option("--calibrate-images", min=1, help="How many of them, evenly chosen.")] = 32,
    replace: Annotated[bool, typer.Option("--replace", help="Replace FILE where it is there already.")] = False,
    trust: TrustOption = None,
) -> None:
    """Write a network, with the fusion of its scales, as one file for ONNX Runtime or PyTorch.

    `predict`, `evaluate`, `autolabel`, `video` and `background` take an .onnx file in place of a checkpoint.

    Example: polyscale export streets streets.onnx --scales 0.5,1,2
    """
    wanted = parse_scales(scales)
    shape = None if size == "dynamic" else parse_size(size)
    if int8 != (calibrate is not None):
        raise UserError("--int8 and --calibrate DIR belong together; give both, or neither")
    if out.exists() and not replace:
        raise UserError(f"{out} is there already; choose another name, or --replace it")
    check_folder(out.parent)
    from polyscale.export import export_network
    from polyscale.inference.files import find_images
    from polyscale.models.checkpoint import load_checkpoint

    chosen = None
    if calibrate is not None:
        found = [item.path for item in find_images([calibrate])]
        chosen = found[:: max(1, len(found) // num_images)][:num_images]
    network = load_checkpoint(checkpoint, trust=trust or ())
    made = export_network(
        network.model, network.label_space, out, scales=wanted, size=shape, verify=verify, calibrate=chosen,
        info=network.info,
    )  # fmt: skip
    if made.agreement is not None:
        say(str(made.agreement))
    typer.echo(made.path)
