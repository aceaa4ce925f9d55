"""Arguments and options that several commands share, and how their text is read."""

import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polyscale.errors import UserError
from polyscale.scales import check_scales

if TYPE_CHECKING:
    from polyscale.tiles import Tiles

__all__ = [
    "Adaptive",
    "Bands",
    "Checkpoint",
    "Data",
    "Device",
    "Every",
    "Flip",
    "FrameSize",
    "NumberType",
    "Overlap",
    "Precision",
    "Rate",
    "Replace",
    "Scales",
    "Smooth",
    "Sound",
    "Tile",
    "Trust",
    "Workers",
    "parse_bands",
    "parse_scales",
    "parse_size",
    "parse_tiles",
    "source_and_target",
    "take_network",
]

LONGEST_NUMBER = 6
"""Digits; Python itself refuses to read numbers of thousands."""


class NumberType(str, Enum):
    """Number type of the network; losses, fusion and scores stay float32."""

    float32 = "float32"
    bfloat16 = "bfloat16"


Checkpoint = Annotated[
    Path,
    typer.Argument(
        metavar="NETWORK",
        help="A .safetensors file, a run's folder, or a name that `polyscale models` lists.",
        show_default=False,
    ),
]
Data = Annotated[
    str,
    typer.Argument(metavar="DATA", help="A folder, FOLDER:SPLIT, or a YAML file of a data set.", show_default=False),
]
Scales = Annotated[
    str | None,
    typer.Option(
        "--scales", metavar="S,S,…", help="Scales to look at, 1 among them: 0.5,1,2. By default the network's own."
    ),
]
Adaptive = Annotated[
    float | None,
    typer.Option(
        "--adaptive",
        metavar="SURE",
        help="Show the finest scale only where the others are less sure than this, such as 0.7: quicker.",
    ),
]
Flip = Annotated[bool, typer.Option("--flip", help="Look at the mirrored image as well and average.")]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda, cuda:1 or mps. By default a GPU where there is one.")
]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        "--trust", metavar="MODULE:NAME", help="Allow the checkpoint to use this decoder or backbone of your own code."
    ),
]
Precision = Annotated[NumberType, typer.Option("--precision", help="bfloat16 is faster on recent GPUs and some CPUs.")]
Tile = Annotated[
    int | None,
    typer.Option(
        "--tile", min=0, metavar="PIXELS", help="Look at images in tiles of this side, such as 1024; 0 at whole ones."
    ),
]
Overlap = Annotated[
    int | None,
    typer.Option("--overlap", min=0, metavar="PIXELS", help="That neighbouring tiles share; by default an eighth."),
]
Bands = Annotated[
    str | None,
    typer.Option("--bands", metavar="R,G,B", help="Bands of a TIFF that become red, green and blue, such as 4,3,2."),
]
FrameSize = Annotated[
    str | None,
    typer.Option("--size", metavar="HxW", help="Show frames to the network at this size. By default their own."),
]
Every = Annotated[
    int, typer.Option("--every", min=1, help="Look at every so many frames; those between keep the last result.")
]
Smooth = Annotated[
    float, typer.Option("--smooth", metavar="S", help="Share of the past where the image is still, 0 to below 1: 0.7.")
]
Rate = Annotated[float, typer.Option("--rate", help="Frames a second, where IN is pictures.")]
Sound = Annotated[bool, typer.Option("--sound/--no-sound", help="Copy the sound.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace OUT where it is there already.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Threads. By default one a core.")]


def parse_tiles(tile: int | None, overlap: int | None) -> "Tiles | None":
    """``--tile`` and ``--overlap``; None where neither is given.

    Raises:
        UserError: an overlap without a tile, or one that does not suit it.
    """
    if tile is None:
        if overlap is not None:
            raise UserError(f"--overlap {overlap} is of tiles; give their side as well, such as --tile 1024")
        return None
    from polyscale.tiles import Tiles

    tiles = Tiles(tile, tile // 8 if overlap is None else overlap)
    if tile:
        tiles.check()
    return tiles


def parse_bands(text: str | None) -> tuple[int, ...] | None:
    """``"4,3,2"`` as three numbers; None stays None.

    Raises:
        UserError: not three whole numbers from 1.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 3 or not all(map(_is_count, parts)):
        raise UserError(
            f"--bands must be three numbers from 1, for red, green and blue, got {text[:100]!r}; such as 4,3,2"
        )
    return tuple(map(int, parts))


def parse_scales(text: str | None) -> tuple[float, ...] | None:
    """``"0.5,1,2"`` as numbers in the order given; None stays None (the network's own scales).

    Raises:
        UserError: not numbers, or no set of scales (see ``check_scales``).
    """
    if text is None:
        return None
    try:
        scales = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UserError(f"--scales must be numbers parted by commas, got {text!r}; for example 0.5,1,2") from None
    try:
        check_scales(scales)
    except ValueError as error:
        raise UserError(f"--{error}") from None
    return scales


def parse_size(text: str) -> tuple[int, int]:
    """``"256x512"`` as (height, width) in pixels.

    Raises:
        UserError: not two whole numbers from 1 to 999,999.
    """
    height, _, width = text.lower().partition("x")
    if not (_is_count(height.strip()) and _is_count(width.strip())):
        raise UserError(f"--size must be HEIGHTxWIDTH in pixels, got {text[:100]!r}; for example 256x512")
    return int(height), int(width)


def _is_count(text: str) -> bool:
    return text.isdecimal() and len(text) <= LONGEST_NUMBER and int(text) > 0


def take_network(parts: list[str], default: str) -> tuple[str | Path, list[str], bool]:
    """The network before other arguments, or the one that ships for this; the others; whether it is the default.

    Raises:
        UserError: the first argument is nearly a network's name; the message names the nearest.
    """
    from polyscale.models.finding import find_network, names_network, shipped_file

    if parts and names_network(parts[0]):
        return parts[0], parts[1:], False
    if len(parts) > 1 and re.fullmatch(r"[\w-]*[A-Za-z_][\w-]*", parts[0]) and not Path(parts[0]).exists():
        find_network(parts[0])
    return shipped_file(default), parts, True


def source_and_target(parts: list[str], default: str, example: str) -> tuple[str | Path, str, Path, bool]:
    """Network, source and target of ``[NETWORK] IN OUT``, and whether the network is the default.

    Raises:
        UserError: not two names beside the network's.
    """
    from polyscale.models.finding import find_network

    network, rest, by_default = (
        (find_network(parts[0]), parts[1:], False) if len(parts) == 3 else take_network(parts, default)
    )
    if not by_default and not rest:
        raise UserError(f"{network} is a network; name IN and OUT after it: {example}")
    if len(rest) != 2:
        raise UserError(f"two names are needed, IN and OUT, after the network if one is named: {example}")
    return network, rest[0], Path(rest[1]), by_default
