"""``polyscale try``: a local page to drop images on."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from polyscale.cli import options
from polyscale.cli.display import say

__all__ = ["try_command"]


def try_command(
    network: Annotated[
        Path,
        typer.Argument(
            metavar="[NETWORK]", help="A .safetensors file, a run's folder, or a name that `polyscale models` lists."
        ),
    ] = Path("streets"),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port of the page; 0 takes a free one.")] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Print the address, and open no browser.")] = False,
    device: options.Device = None,
    precision: options.Precision = options.NumberType.float32,
    trust: options.Trust = None,
) -> None:
    """Open a local page to try a network: drop or paste an image, and see what each scale says of it.

    The page shows the overlay, each scale alone, the trust in each and the confidence, and fuses anew by sliders. It is
    served to this computer only, and no image leaves it. Ctrl-C ends it.

    Example: polyscale try runs/attended
    """
    import polyscale
    from polyscale.models import read_metadata
    from polyscale.page import PageServer

    info = read_metadata(network).info
    predictor = polyscale.load(network, device, precision.value, trust or ())
    with PageServer(predictor, network.name, _facts(info), port) as server:
        try:
            say("Ctrl-C ends it")
            typer.echo(server.url)
            if not no_open and _has_browser():
                import webbrowser

                webbrowser.open(server.url)
            server.serve_forever()
        except KeyboardInterrupt:
            say("ended")


def _facts(info: dict[str, Any]) -> list[str]:
    """Recorded facts of its training, the important ones first."""
    return [str(info[key]) for key in ("score", "trained_on", "licence") if info.get(key)]


def _has_browser() -> bool:
    """Whether there is a desktop; without one, Python would open a browser of text in this terminal."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(key) for key in ("DISPLAY", "WAYLAND_DISPLAY"))
