"""``polyscale video``: what a network sees in a video."""

from typing import TYPE_CHECKING, Annotated

import typer

from polyscale.cli import options
from polyscale.cli.display import progress_bar, say

if TYPE_CHECKING:
    from polyscale.video import VideoSummary

__all__ = ["report", "video_command"]

DEFAULT = "streets"


def video_command(
    parts: Annotated[
        list[str],
        typer.Argument(
            metavar="[NETWORK] IN OUT",
            help=f"A network (a file, a run's folder, or a name that `polyscale models` lists; by default {DEFAULT}). "
            "IN: a video file, a folder of pictures, a .txt list of them, or a camera's number (0). "
            "OUT: the video to write: .mp4, .mov, .mkv or .webm.",
            show_default=False,
        ),
    ],
    shown: Annotated[
        str,
        typer.Option(
            "--show",
            metavar="WHAT",
            help="overlay; side: the frame beside it; masks: colours alone; attention: how much each scale counts.",
        ),
    ] = "overlay",
    scales: options.Scales = None,
    flip: options.Flip = False,
    size: options.FrameSize = None,
    every: options.Every = 1,
    smooth: options.Smooth = 0.0,
    rate: options.Rate = 25.0,
    sound: options.Sound = True,
    legend: Annotated[
        bool, typer.Option("--legend", help="Names and colours of the classes below the picture.")
    ] = False,
    replace: options.Replace = False,
    device: options.Device = None,
    precision: options.Precision = options.NumberType.float32,
    trust: options.Trust = None,
) -> None:
    """Show what a network sees in a video.

    Frames keep their times and the sound is kept. OUT is whole or absent; with a camera, Ctrl-C is the end.

    Example: polyscale video in.mp4 out.mp4 --show side
    """
    wanted = options.parse_scales(scales)
    shape = None if size is None else options.parse_size(size)
    checkpoint, source, out, by_default = options.source_and_target(parts, DEFAULT, "polyscale video in.mp4 out.mp4")
    import polyscale
    from polyscale.video import label_video
    from polyscale.video.draw import check_shown
    from polyscale.video.sink import check_target
    from polyscale.video.source import check_source

    check_shown(shown)
    check_source(source)
    check_target(out, source, replace)
    predictor = polyscale.load(checkpoint, device, precision.value, trust or ())
    if by_default:
        say(f"with {DEFAULT}, which ships with Polyscale; name another network before IN")
    with progress_bar("video", "frames") as progress:
        summary = label_video(
            predictor, source, out, shown, scales=wanted, flip=flip, size=shape, every=every, smooth=smooth,
            rate=rate, sound=sound, legend=legend, replace=replace, progress=progress,
        )  # fmt: skip
    report(summary)


def report(summary: "VideoSummary") -> None:
    """Say how fast it went, where the time went, how much the classes flicker, and what was wrong with the source."""
    timing, whole = summary.timing, summary.timing.total or 1e-9
    say(
        f"{summary.num_frames} frames in {whole:.1f} s, {summary.num_frames / whole:.1f} frames/s; the network was "
        f"busy {timing.network / whole:.0%} of the time, waited {timing.reading / whole:.0%} for frames and "
        f"{timing.writing / whole:.0%} for the file"
    )
    if summary.flicker is not None:
        smoothed = "" if summary.smoothed_flicker is None else f", smoothed {summary.smoothed_flicker:.2%}"
        say(f"flicker: {summary.flicker:.2%} of the still pixels change class from one look to the next{smoothed}")
    if summary.problem is not None:
        say(summary.problem)
    typer.echo(summary.path)
