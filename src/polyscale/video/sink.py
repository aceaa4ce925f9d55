"""Frames into a video file that is whole or absent."""

import contextlib
import errno
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from polyscale.errors import UserError
from polyscale.files import check_folder, write_atomically
from polyscale.video.source import Source, load_av

if TYPE_CHECKING:
    from av.packet import Packet

__all__ = ["VIDEO_SUFFIXES", "Sink", "check_target", "write_video"]

Array = np.ndarray[Any, np.dtype[np.uint8]]

_ENCODERS = {".mp4": "libx264", ".m4v": "libx264", ".mov": "libx264", ".mkv": "libx264", ".webm": "libvpx-vp9"}
_OPTIONS = {
    "libx264": {"crf": "18", "preset": "veryfast"},
    "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"},
    "mpeg4": {"qscale": "3"},
}
_BT709 = 1
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of the disk, which say nothing of the sound."""

VIDEO_SUFFIXES = tuple(_ENCODERS)
"""Suffixes of the files that can be written."""


def check_target(path: Path, source: str | Path, replace: bool, suffixes: Sequence[str] = tuple(_ENCODERS)) -> None:
    """Make sure that a result can be written, before anything is computed.

    Raises:
        UserError: an unknown suffix, the source itself, a file that is there and shall not be replaced, or a folder
            that may not be written.
    """
    if path.suffix.lower() not in suffixes:
        raise UserError(f"the result ends in {', '.join(suffixes)}, got {str(path)!r}; choose another name")
    if path.exists():
        if not path.is_file():
            raise UserError(f"{path} is no ordinary file; choose another name")
        if Path(source).exists() and path.samefile(source):
            raise UserError(f"{path} is what is read; choose another name for the result")
        if not replace:
            raise UserError(f"{path} is there already; choose another name, or --replace it")
    check_folder(path.parent)


@contextlib.contextmanager
def write_video(path: Path, size: tuple[int, int], source: Source, sound: bool = True) -> Iterator["Sink"]:
    """Give a sink for frames; the file appears under its name when the block ends without an error.

    Args:
        path: where to; its suffix decides the format.
        size: (H, W) of the pictures.
        source: whose timing and sound it takes over.
        sound: take over the sound.

    Raises:
        UserError: the format cannot hold the sound, or the file cannot be written.
    """
    with write_atomically(path) as temporary:
        sink = Sink(temporary, size, source, source.sound if sound else None)
        try:
            yield sink
        except BaseException:
            sink.abandon()
            raise
        sink.close()


class Sink:
    """Encodes pictures.

    Args:
        path: of the file.
        size: (H, W) of the pictures; odd sides are made even by doubling the last row or column.
        source: whose timing it has.
        sound: a stream whose packets are passed on as they are.
    """

    def __init__(self, path: Path, size: tuple[int, int], source: Source, sound: Any = None) -> None:
        av = load_av()
        self._av, self._errors = av, (av.FFmpegError, OSError, ValueError)
        encoder = _ENCODERS[path.suffix.lower()]
        if encoder not in av.codecs_available:
            encoder = "mpeg4"
        self._padding = (size[0] % 2, size[1] % 2)
        self._time_base = source.time_base
        fast_start = {"movflags": "+faststart"} if path.suffix.lower() in (".mp4", ".m4v", ".mov") else {}
        self._container = av.open(str(path), "w", options=fast_start)
        self._stream = self._container.add_stream(encoder, rate=source.rate, options=_OPTIONS[encoder])
        context = self._stream.codec_context
        context.height, context.width = (side + more for side, more in zip(size, self._padding, strict=True))
        context.pix_fmt = "yuv420p"
        context.time_base = self._stream.time_base = source.time_base
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = 1  # of television: 16 to 235
        self._sound: Any = None
        if sound is not None:
            name = sound.codec_context.name
            try:
                self._sound = self._container.add_stream_from_template(sound)
                self._container.start_encoding()
            except self._errors as error:
                self.abandon()
                if getattr(error, "errno", None) in _DISK:
                    raise
                raise UserError(
                    f"the sound ({name}) does not go into a {path.suffix} file as it is; choose .mkv or --no-sound"
                ) from None

    def write(self, picture: Array, pts: int) -> None:
        """Encode one picture (H, W, 3) RGB, shown at ``pts`` in units of the source's time base."""
        if any(self._padding):
            rows, columns = self._padding
            picture = np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="edge")
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        frame.pts, frame.time_base = pts, self._time_base
        self._container.mux(self._stream.encode(frame))

    def pass_on(self, packet: "Packet[Any]") -> None:
        """Put a packet of sound into the file, unchanged."""
        if self._sound is not None:
            packet.stream = self._sound
            self._container.mux(packet)

    def close(self) -> None:
        """Write the remaining frames."""
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def abandon(self) -> None:
        """Close; the file's content does not matter."""
        with contextlib.suppress(*self._errors):
            self._container.close()
