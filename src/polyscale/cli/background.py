"""``polyscale background``: another background behind what is kept."""

from typing import Annotated

import typer

from polyscale.cli import options
from polyscale.cli.display import progress_bar, say
from polyscale.cli.video import report

__all__ = ["background_command"]

DEFAULT = "person"

_NOTHING = 1e-4
"""Share of a picture below which nothing worth mentioning is kept."""


def background_command(
    parts: Annotated[
        list[str],
        typer.Argument(
            metavar="[NETWORK] IN OUT",
            help=f"A network (a file, a run's folder, or a name that `polyscale models` lists; by default {DEFAULT}). "
            "IN: an image, a video, a folder of pictures, a .txt list of them, or a camera's number (0). "
            "OUT: the picture (.png, .jpg, .webp) or video to write.",
            show_default=False,
        ),
    ],
    keep: Annotated[
        str, typer.Option("--keep", metavar="CLASS,…", help="Classes that stay in front; person is all of its parts.")
    ] = "person",
    backdrop: Annotated[
        str,
        typer.Option(
            "--with", metavar="WHAT", help="blur, a colour, an image or video file; of pictures also transparent."
        ),
    ] = "blur",
    refine: Annotated[
        bool, typer.Option("--refine/--no-refine", help="Let the edge follow the edges of the image.")
    ] = True,
    islands: Annotated[
        bool, typer.Option("--islands", help="Also keep regions of less than a tenth of the largest.")
    ] = False,
    scales: options.Scales = None,
    flip: options.Flip = False,
    size: options.FrameSize = None,
    every: options.Every = 1,
    smooth: options.Smooth = 0.0,
    rate: options.Rate = 25.0,
    sound: options.Sound = True,
    replace: options.Replace = False,
    device: options.Device = None,
    precision: options.Precision = options.NumberType.float32,
    trust: options.Trust = None,
) -> None:
    """Put another background behind people, or whatever classes are kept.

    OUT decides whether IN is read as an image or as a video.

    Example: polyscale background photo.jpg out.png --with blur
    """
    wanted = options.parse_scales(scales)
    shape = None if size is None else options.parse_size(size)
    names = [name.strip() for name in keep.split(",") if name.strip()]
    example = "polyscale background photo.jpg out.png"
    checkpoint, source, out, by_default = options.source_and_target(parts, DEFAULT, example)
    import polyscale
    from polyscale.video.background import PICTURE_SUFFIXES, Scene, background_of_image, background_of_video
    from polyscale.video.sink import VIDEO_SUFFIXES, check_target
    from polyscale.video.source import check_source

    still = out.suffix.lower() in PICTURE_SUFFIXES
    check_source(source)
    check_target(out, source, replace, (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES))
    predictor = polyscale.load(checkpoint, device, precision.value, trust or ())
    if by_default:
        say(f"with {DEFAULT}, which ships with Polyscale; name another network before IN")
    scene = Scene(names, backdrop, refine, islands)
    if still:
        kept = background_of_image(predictor, source, out, scene, scales=wanted, flip=flip, size=shape, replace=replace)
        if kept < _NOTHING:
            say(f"{', '.join(names)} was not found in {source}; the picture is all background")
        typer.echo(out)
        return
    with progress_bar("video", "frames") as progress:
        summary = background_of_video(
            predictor, source, out, scene, scales=wanted, flip=flip, size=shape, every=every, smooth=smooth,
            rate=rate, sound=sound, replace=replace, progress=progress,
        )  # fmt: skip
    report(summary)
