"""``polyscale export``: a network as a file for other runtimes."""

from pathlib import Path
from typing import Annotated

import typer

from polyscale.cli import options
from polyscale.cli.display import say
from polyscale.errors import UserError
from polyscale.files import check_folder

__all__ = ["export_command"]


def export_command(
    checkpoint: options.Checkpoint,
    out: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="What to write: .onnx, or .pt2 for torch.export.", show_default=False),
    ],
    scales: options.Scales = None,
    size: Annotated[
        str, typer.Option("--size", metavar="HxW", help="Of all images, or dynamic: images of any size.")
    ] = "dynamic",
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Compare with the network; leave no file where it differs.")
    ] = True,
    replace: Annotated[bool, typer.Option("--replace", help="Replace FILE where it is there already.")] = False,
    trust: options.Trust = None,
) -> None:
    """Write a network, with the fusion of its scales, as one file for ONNX Runtime or PyTorch. It takes minutes.

    `predict`, `evaluate`, `autolabel`, `video` and `background` take an .onnx file in place of a checkpoint.

    Example: polyscale export streets streets.onnx --scales 0.5,1,2
    """
    wanted = options.parse_scales(scales)
    shape = None if size == "dynamic" else options.parse_size(size)
    if out.exists() and not replace:
        raise UserError(f"{out} is there already; choose another name, or --replace it")
    check_folder(out.parent)
    from polyscale.export import export_network
    from polyscale.models.checkpoint import load_checkpoint

    network = load_checkpoint(checkpoint, trust=trust or ())
    say(
        "tracing the network, writing it, and comparing the file with it; this takes a minute or more"
        if verify
        else "tracing the network and writing it; this takes a minute or more"
    )
    made = export_network(
        network.model, network.label_space, out, scales=wanted, size=shape, verify=verify, info=network.info
    )
    if made.agreement is not None:
        say(str(made.agreement))
    typer.echo(made.path)
