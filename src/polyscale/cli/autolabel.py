"""``polyscale autolabel``: a teacher's labels for images that have none, or coarse ones.

The usual form names no command: ``polyscale autolabel TEACHER IMAGES`` is ``polyscale autolabel run TEACHER IMAGES``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from polyscale.cli import options
from polyscale.cli.autolabel_audit import audit_command
from polyscale.cli.display import Bars, print_table, say
from polyscale.errors import UserError

__all__ = ["app"]


class _RunByDefault(TyperGroup):
    """A group whose first argument is ``run``'s where it names no command."""

    default_command = "run"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = [self.default_command, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunByDefault,
    help="Label images with a trained network: polyscale autolabel TEACHER IMAGES --out DIR.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("audit")(audit_command)


@app.command("run")
def run(
    teacher: Annotated[
        Path, typer.Argument(metavar="TEACHER", help="A .safetensors file that training wrote.", show_default=False)
    ],
    images: Annotated[
        str,
        typer.Argument(
            metavar="IMAGES",
            help="A folder, a text file with one image path a line, or a data set (folder, FOLDER:SPLIT, YAML).",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the labels.", show_default=False)],
    threshold: Annotated[
        str,
        typer.Option(
            "--threshold", metavar="P[,CLASS=P…]", help="Label where the teacher's probability is at least P."
        ),
    ] = "0.5",
    keep: Annotated[
        str | None,
        typer.Option(
            "--keep",
            metavar="S[,CLASS=S…]",
            help="Choose thresholds by class such that this share of its pixels, 0 to 1, is labelled.",
        ),
    ] = None,
    keep_sample: Annotated[int, typer.Option(min=1, help="Images from which --keep chooses, in a first pass.")] = 500,
    scales: options.Scales = None,
    flip: options.Flip = False,
    tile: options.Tile = None,
    overlap: options.Overlap = None,
    coarse: Annotated[
        str | None, typer.Option("--coarse", metavar="DATA", help="Data set of coarse labels of the same images.")
    ] = None,
    coarse_mode: Annotated[
        str,
        typer.Option(
            "--coarse-mode",
            metavar="MODE[,CLASS=MODE…]",
            help="keep: coarse labels stand, the teacher fills gaps; gaps: label only the gaps; veto: ignore where "
            "both differ; agree: label only where both agree; only: this class from coarse labels alone.",
        ),
    ] = "keep",
    frame: Annotated[
        Path | None, typer.Option("--frame", help="Picture of the images' size; its pixels of 0 are never labelled.")
    ] = None,
    drop: Annotated[str | None, typer.Option("--drop", metavar="CLASS,…", help="Never label these classes.")] = None,
    min_region: Annotated[int, typer.Option(min=0, help="Ignore connected regions of fewer pixels.")] = 0,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Store confidence maps, for `rethreshold` and `audit`.")
    ] = False,
    confidence_stride: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=16,
            help="Pixels a side that a stored value covers: 1 is exact, and larger. Else 4, or 2 below a megapixel.",
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images of one size that the network sees together.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Threads that load images, and as many that write.")] = 4,
    replace: Annotated[
        bool, typer.Option("--replace", help="Remove labels of another teacher or other settings from the folder.")
    ] = False,
    device: options.Device = None,
    precision: options.Precision = options.NumberType.float32,
    trust: options.Trust = None,
) -> None:
    """Label images with a trained network.

    A pixel gets the teacher's class where its probability is at least the threshold, else it is ignored. The folder
    becomes a data set; a second call continues an interrupted run. Images that cannot be used are skipped and named,
    and the exit status is then 1, or 2 where nothing could be labelled. Under torchrun the processes share the images.
    """
    wanted, tiles = options.parse_scales(scales), options.parse_tiles(tile, overlap)
    from polyscale.autolabel import AutolabelConfig, autolabel
    from polyscale.config import validate

    values: dict[str, Any] = {"scales": wanted, "flip": flip, "keep_sample": keep_sample, "min_region": min_region}
    values["threshold"], values["class_thresholds"] = parse_by_class("--threshold", threshold, _number, 0.5)
    values["keep"], values["class_keep"] = parse_by_class("--keep", keep or "", _number, None)
    values["coarse"], values["class_coarse"] = parse_by_class("--coarse-mode", coarse_mode, str, "keep")
    values["drop"] = [] if drop is None else [part.strip() for part in drop.split(",") if part.strip()]
    values |= {"confidence": confidence, "confidence_stride": confidence_stride, "precision": precision.value}
    if tiles is not None and tiles.tile:
        values |= {"tile": tiles.tile, "overlap": tiles.overlap}
    config = validate(AutolabelConfig, values)
    bars = Bars()
    try:
        summary = autolabel(
            teacher,
            images,
            out,
            config,
            coarse=coarse,
            frame=frame,
            device=device,
            trust=trust or (),
            batch=batch,
            workers=workers,
            replace=replace,
            progress=bars.update if is_first_process() else None,
            report=bars.say,
        )
    finally:
        bars.close()
    if not is_first_process():
        return
    _end(summary)


@app.command("rethreshold")
def rethreshold_command(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder labelled with --confidence.", show_default=False)
    ],
    threshold: Annotated[
        str,
        typer.Option(
            "--threshold",
            metavar="P[,CLASS=P…]",
            help="Of the stored levels, or 1: coarse labels alone. By default as before.",
        ),
    ] = "",
    min_region: Annotated[
        int | None, typer.Option(min=0, help="Ignore connected regions of fewer pixels. By default as before.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Threads.")] = 4,
) -> None:
    """Label a folder again by other thresholds, without the teacher."""
    from polyscale.autolabel import rethreshold

    default, by_name = parse_by_class("--threshold", threshold, _number, None)
    bars = Bars()
    try:
        summary = rethreshold(
            folder,
            default,
            by_name,
            min_region,
            workers=workers,
            progress=lambda done, total: bars.update("thresholding", done, total),
            report=bars.say,
        )
    finally:
        bars.close()
    if (folder / "audit" / "audit.json").exists():
        say(f"{folder}/audit tells of the labels as they were before; run `polyscale autolabel audit` again")
    _end(summary)


def parse_by_class(option: str, text: str, read: Callable[[str], Any], default: Any) -> tuple[Any, dict[str, Any]]:
    """``"0.5,pole=0.8"`` as the value for all classes and those by class name.

    Raises:
        UserError: two values for all or for one class, or a value that ``read`` does not take.
    """
    general: list[Any] = []
    by_name: dict[str, Any] = {}
    for part in (part.strip() for part in text.split(",")):
        name, separator, value = part.rpartition("=")
        if not part:
            continue
        try:
            found = read(value.strip())
        except ValueError:
            raise UserError(f"{option} needs numbers, got {part!r}; for example 0.5,pole=0.8") from None
        if not separator:
            general.append(found)
        elif name.strip() in by_name:
            raise UserError(f"{option} names class {name.strip()!r} twice; give it once")
        else:
            by_name[name.strip()] = found
    if len(general) > 1:
        raise UserError(f"{option} has {len(general)} values for all classes, {text!r}; write others as CLASS=VALUE")
    return (general[0] if general else default), by_name


def is_first_process() -> bool:
    """Whether this process is the one that prints."""
    import os

    return int(os.environ.get("RANK", "0")) == 0


def _number(text: str) -> float:
    return float(text)


def _end(summary: Any) -> None:
    """Print the tables; where images failed, say so and exit."""
    _print(summary)
    if summary.failures:
        number = len(summary.failures)
        if not summary.num_done:
            raise UserError(f"none of {number} images could be labelled: {next(iter(summary.failures.values()))}")
        say(
            f"{number} of {number + summary.num_done} images could not be labelled; "
            f"{summary.folder}/failures.jsonl names them"
        )
        raise typer.Exit(1)


def _print(summary: Any) -> None:
    for table in summary.tables():
        print_table(*table)
    sizes = ", ".join(f"{kind} {size / 1000:.1f} kB" for kind, size in summary.bytes_by_kind.items())
    if sizes:
        say(f"an image in the mean: {sizes}")
    timing = summary.timing
    if timing.num_images and timing.total:
        whole = timing.total
        say(
            f"{timing.num_images} images in {whole:.0f} s, {timing.num_images / whole:.1f} images/s; the network was "
            f"busy {timing.network / whole:.0%} of the time, waited {timing.loading / whole:.0%} for images and "
            f"{timing.writing / whole:.0%} for files"
        )
    typer.echo(summary.folder)
