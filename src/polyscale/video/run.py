"""A video in, a video of what the network sees in it out."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import Unpack

from polyscale.errors import UserError
from polyscale.inference.predictor import Predictor
from polyscale.multiscale import resize
from polyscale.strips import largest
from polyscale.video.draw import check_shown, draw
from polyscale.video.overlap import Timing, overlap
from polyscale.video.sink import check_target, write_video
from polyscale.video.smoothing import Flicker, Smoothing, change
from polyscale.video.source import Frame, Source, open_source

__all__ = ["VideoSummary", "Watcher", "Watching", "convert", "label_video"]

Array = np.ndarray[Any, Any]
Progress = Callable[[int, int | None], None]
"""Called with (frames done, frames in all or None where that is not known)."""


class VideoSummary(NamedTuple):
    """What a run did."""

    path: Path
    num_frames: int
    timing: Timing
    flicker: float | None
    """Share of the still pixels that change class from one frame to the next, without smoothing; None where nothing was
    still."""
    smoothed_flicker: float | None
    """The same with smoothing; None without."""
    problem: str | None
    """Defects of the source."""


class Seen(NamedTuple):
    """What the network says of a frame, at the frame's size."""

    probabilities: Tensor
    """(1, C, H, W) float32 in [0, 1]."""
    labels: Tensor
    """The most probable class, (H, W) uint8."""
    weights: dict[float, Array]
    """Scale -> how much it counts, (H, W) in [0, 1], finest first."""


class Watching(TypedDict, total=False):
    """Keywords of ``Watcher``, which says what they mean."""

    scales: Sequence[float] | None
    flip: bool
    size: tuple[int, int] | None
    every: int
    smooth: float


class Watcher:
    """Looks at the frames of one video, in order.

    Args:
        predictor: the network.
        scales: to look at; by default the network's own.
        flip: also look at the mirrored frames, and average both.
        size: (H, W) at which frames are shown to the network; by default their own.
        every: look at every so many frames; those between keep what was seen last.
        smooth: share of the past in still pixels, 0 to below 1; see ``Smoothing``.

    Raises:
        UserError: a setting that is not allowed, or scales that the network cannot take.
    """

    def __init__(
        self,
        predictor: Predictor,
        scales: Sequence[float] | None = None,
        flip: bool = False,
        size: tuple[int, int] | None = None,
        every: int = 1,
        smooth: float = 0.0,
    ) -> None:
        if not 0 <= smooth < 1:
            raise UserError(f"the smoothing must lie in 0 to below 1, got {smooth:g}; 0.7 is a good start")
        if every < 1:
            raise UserError(f"every must be 1 or more, got {every}")
        self._looker = predictor.looker
        self.scales = self._looker.choose(scales)
        self._flip, self._size, self._every = flip, size, every
        self._smoothing = Smoothing(smooth) if smooth else None
        self._seen: Seen | None = None
        self._before: Tensor | None = None
        self._number = 0
        self._flicker, self._smoothed_flicker = Flicker(), Flicker()

    @torch.inference_mode()
    def look(self, pixels: Array) -> Seen:
        """The next frame, (H, W, 3) uint8 RGB.

        Raises:
            UserError: it does not fit into memory, or the network's output is not finite.
        """
        number, self._number = self._number, self._number + 1
        if self._seen is not None and number % self._every:
            return self._seen
        image = torch.from_numpy(pixels).to(self._looker.device).permute(2, 0, 1)[None].contiguous().float() / 255
        if self._size is not None and image.shape[-2:] != self._size:
            image = functional.interpolate(image, self._size, mode="bilinear", antialias=True)
        probabilities, weights = self._looker.look(image, self.scales, self._flip)
        changed = None if self._before is None else change(image, self._before)
        self._before = image
        labels = largest(probabilities)[0]
        self._flicker.update(labels[0], changed)
        if self._smoothing is not None:
            probabilities = self._smoothing(probabilities, changed)
            labels = largest(probabilities)[0]
            self._smoothed_flicker.update(labels[0], changed)
        size = pixels.shape[:2]
        if probabilities.shape[-2:] != size:
            probabilities = resize(probabilities, size)
            labels = largest(probabilities)[0]
        self._seen = Seen(
            probabilities,
            labels[0],
            {scale: resize(weight[:, None], size)[0, 0].cpu().numpy() for scale, weight in weights.items()},
        )
        return self._seen

    def summary(self, path: Path, num_frames: int, timing: Timing, problem: str | None) -> VideoSummary:
        """The summary, with the flicker that was measured."""
        smoothed = None if self._smoothing is None else self._smoothed_flicker.share
        return VideoSummary(path, num_frames, timing, self._flicker.share, smoothed, problem)


def label_video(
    predictor: Predictor,
    source: str | Path,
    out: str | Path,
    shown: str = "overlay",
    *,
    rate: float = 25.0,
    sound: bool = True,
    legend: bool = False,
    replace: bool = False,
    progress: Progress | None = None,
    **watching: Unpack[Watching],
) -> VideoSummary:
    """Show what a network sees in a video.

    Frames keep their times, also where these are uneven, and the sound is copied. While the network looks at a frame,
    the next ones are decoded and the last ones encoded. The file is whole or absent: an interrupted run leaves none,
    except that with a camera the interruption is the end.

    Args:
        predictor: the network.
        source: a video file, a folder of pictures, a text file with the path of a picture a line, or a camera's number.
        out: the file; its suffix is one of ``VIDEO_SUFFIXES``.
        shown: one of ``SHOWN``.
        rate: frames a second where the source is pictures.
        sound: copy the sound.
        legend: names and colours of the classes below the picture.
        replace: a file of that name may be replaced.
        progress: see ``Progress``.
        **watching: ``scales``, ``flip``, ``size``, ``every`` and ``smooth``, as for ``Watcher``.

    Raises:
        UserError: the source cannot be read, a setting is not allowed, or the file cannot be written.
    """
    check_shown(shown)
    out = Path(out)
    check_target(out, source, replace)
    watcher = Watcher(predictor, **watching)
    if shown == "attention" and predictor.model.method in ("single", "average"):
        raise UserError(
            f"a network of method {predictor.model.method!r} weighs its scales alike everywhere; "
            "choose overlay, side or masks"
        )

    space = predictor.label_space

    def look(frame: Frame) -> Callable[[], Array]:
        seen = watcher.look(frame.pixels)
        labels = seen.labels.cpu().numpy()
        return lambda: draw(shown, frame.pixels, labels, seen.weights, space, legend)

    with contextlib.closing(open_source(source, rate)) as opened:
        blank = np.zeros(opened.size, np.uint8)
        weights = {scale: blank.astype(np.float32) for scale in watcher.scales}
        picture = draw(shown, np.repeat(blank[..., None], 3, axis=2), blank, weights, space, legend)
        num_frames, timing = convert(opened, out, picture.shape[:2], look, sound, progress)
    return watcher.summary(out, num_frames, timing, opened.problem)


def convert(
    source: Source,
    out: Path,
    size: tuple[int, int],
    look: Callable[[Frame], Callable[[], Array]],
    sound: bool = True,
    progress: Progress | None = None,
) -> tuple[int, Timing]:
    """Take a video frame by frame from its source to a file.

    Args:
        source: of the frames.
        out: the file.
        size: (H, W) of its pictures.
        look: the network's part, called in this thread; what it returns gives the picture, and is called in another.
        sound: copy the sound.
        progress: see ``Progress``.

    Returns:
        The number of frames, and where the time went.
    """
    done = 0

    def make(item: Any) -> tuple[Any, Callable[[], Array] | None]:
        return item, look(item) if isinstance(item, Frame) else None

    with write_video(out, size, source, sound) as sink:

        def keep(made: tuple[Any, Callable[[], Array] | None]) -> None:
            nonlocal done
            item, paint = made
            if paint is None:
                sink.pass_on(item)
                return
            sink.write(paint(), item.pts)
            done += 1
            if progress is not None:
                progress(done, source.num_frames)

        timing = overlap(source.frames(), make, keep, source.endless)
    return done, timing
