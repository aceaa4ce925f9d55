"""Sources of frames: a video file, a camera, a folder of pictures or a list of them."""

import platform
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from polyscale.data.images import IMAGE_SUFFIXES, image_size, read_image
from polyscale.errors import UserError
from polyscale.files import check_name, refuse_address

if TYPE_CHECKING:
    from av.packet import Packet

__all__ = ["Frame", "Source", "load_av", "open_source"]

Array = np.ndarray[Any, np.dtype[np.uint8]]


class Frame(NamedTuple):
    """One frame, upright."""

    pixels: Array
    """(H, W, 3) RGB."""
    pts: int
    """When it is shown, in units of the source's ``time_base``; it grows from frame to frame."""


class Source(Protocol):
    """Frames in order, and packets of sound between them as they lie in the file."""

    name: str
    size: tuple[int, int]
    """(H, W) of every frame."""
    time_base: Fraction
    """Seconds in one unit of ``Frame.pts``."""
    rate: Fraction
    """Frames a second, in the mean."""
    num_frames: int | None
    """As far as it is known before they are read."""
    sound: Any
    """The stream of sound (of PyAV), or None."""
    endless: bool
    """Whether it goes on until the user stops it."""
    problem: str | None
    """What went wrong, once all frames were read."""

    def frames(self) -> Iterator["Frame | Packet[Any]"]:
        """All of it, once.

        Raises:
            UserError: there is no frame, or one cannot be read.
        """

    def close(self) -> None:
        """Let go of the file or device."""


def open_source(given: str | Path, rate: float = 25.0) -> Source:
    """Open whatever holds frames.

    Args:
        given: a video file, a folder of pictures, a text file with the path of a picture a line, or the number of a
            camera.
        rate: frames a second of pictures.

    Raises:
        UserError: there is no such thing, it holds no video, or its pictures differ in size.
    """
    if str(given).isdecimal():
        return _open_camera(int(str(given)))
    check_source(given)
    path = Path(given)
    if path.is_dir():
        found = sorted(filter(_is_picture, path.iterdir()), key=_natural)
        if not found:
            raise UserError(f"no picture in {path}; files ending in {' '.join(IMAGE_SUFFIXES)} are looked for")
        return Pictures(str(path), found, rate)
    if path.suffix.lower() == ".txt":
        return Pictures(str(path), _listed(path), rate)
    if path.suffix.lower() in IMAGE_SUFFIXES and path.suffix.lower() != ".gif":
        raise UserError(f"{path} is one picture; name a folder of them, a list, or a video")
    return Video(path)


def check_source(given: str | Path) -> None:
    """Make sure that there is something to read, before a network is loaded.

    Raises:
        UserError: there is not.
    """
    if not str(given).isdecimal() and not Path(given).exists():
        refuse_address(given)
        raise UserError(
            f"no such video, picture, folder or list: {given}; a camera is named by its number, 0 the first"
        )


def load_av() -> Any:
    """The library PyAV.

    Raises:
        UserError: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise UserError("video needs PyAV; install it with: pip install av") from None
    av.logging.set_level(None)
    return av


class Pictures:
    """Pictures of one size as frames.

    Args:
        name: where they come from.
        paths: in order.
        rate: frames a second.

    Raises:
        UserError: one cannot be read, or has another size than the first.
    """

    def __init__(self, name: str, paths: list[Path], rate: float) -> None:
        if not 0 < rate <= 1000:
            raise UserError(f"the rate must lie above 0 and at most at 1000 frames a second, got {rate:g}")
        self.name = name
        self.rate = Fraction(str(rate)).limit_denominator(1001)
        self.time_base = 1 / self.rate
        self.num_frames: int | None = len(paths)
        self.sound: Any = None
        self.endless = False
        self.problem: str | None = None
        self.size = image_size(paths[0])
        for path in paths[1:]:
            if (size := image_size(path)) != self.size:
                raise UserError(
                    f"{path} is {size[1]} x {size[0]} pixels, but {paths[0].name} is {self.size[1]} x {self.size[0]}; "
                    "the frames of a video have one size"
                )
        self._paths = paths

    def frames(self) -> Iterator["Frame | Packet[Any]"]:
        """See ``Source``."""
        for number, path in enumerate(self._paths):
            yield Frame(read_image(path), number)

    def close(self) -> None:
        """See ``Source``."""


class Video:
    """The first video stream of a file or device, and a file's first stream of sound.

    Args:
        path: what PyAV opens.
        device: the kind of device, by FFmpeg's name; None for files.

    Raises:
        UserError: it cannot be read, or has no frame.
    """

    def __init__(self, path: str | Path, device: str | None = None) -> None:
        av = load_av()
        self.name = str(path)
        self.endless = device is not None
        self.problem: str | None = None
        if not self.endless and Path(path).stat().st_size == 0:
            raise UserError(f"{path} is empty (0 bytes); replace it")
        try:
            self._container = av.open(str(path), format=device)
        except (av.FFmpegError, OSError) as error:
            raise UserError(f"{path} is not a video that can be read: {_reason(error)}; replace it") from None
        try:
            covers = av.stream.Disposition.attached_pic
            streams = [stream for stream in self._container.streams.video if not stream.disposition & covers]
            if not streams:
                raise UserError(f"{path} holds no video; name another file")
            self._stream = streams[0]
            self._stream.thread_type = "AUTO"
            self.sound: Any = None if self.endless else next(iter(self._container.streams.audio), None)
            self.rate = Fraction(self._stream.average_rate or self._stream.guessed_rate or 25)
            self.time_base = Fraction(self._stream.time_base or 1 / self.rate)
            self.num_frames = self._count()
            # The first frame tells how a phone was held, which decides the size.
            self._items = self._decoded()
            self._first: list[Any] = []
            while not self._first or not isinstance(self._first[-1], Frame):
                if (item := next(self._items, None)) is None:
                    raise UserError(f"{path} holds no frame that can be read; replace it")
                self._first.append(item)
        except BaseException:
            self._container.close()
            raise
        self.size: tuple[int, int] = self._first[-1].pixels.shape[:2]

    def frames(self) -> Iterator["Frame | Packet[Any]"]:
        """See ``Source``."""
        number = 0
        while self._first:
            number += isinstance(self._first[0], Frame)
            yield self._first.pop(0)
        for item in self._items:
            number += isinstance(item, Frame)
            yield item
        if self.problem is None and number < self._stream.frames:
            self.problem = f"{self.name} should hold {self._stream.frames} frames, but {number} could be read"

    def close(self) -> None:
        """See ``Source``."""
        self._container.close()

    def _count(self) -> int | None:
        if self.endless:
            return None
        if self._stream.frames:
            return int(self._stream.frames)
        seconds = self._container.duration  # in millionths
        return None if not seconds else max(1, round(seconds * self.rate / 1_000_000))

    def _decoded(self) -> Iterator["Frame | Packet[Any]"]:
        import av

        last: int | None = None
        step = max(1, round(1 / (self.rate * self.time_base)))
        size: tuple[int, int] | None = None
        streams = [self._stream] if self.sound is None else [self._stream, self.sound]
        packets = self._container.demux(streams)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                if packet.stream is not self._stream:
                    if packet.dts is not None:
                        yield packet
                    continue
                decoded = packet.decode()
            except av.error.InvalidDataError:
                self.problem = f"parts of {self.name} are damaged and were left out"
                continue
            except (av.FFmpegError, OSError) as error:
                self.problem = f"{self.name} cannot be read to its end: {_reason(error)}"
                return
            for frame in decoded:
                size = size or (frame.width, frame.height)
                pixels = frame.to_ndarray(format="rgb24", width=size[0], height=size[1])
                if frame.rotation:
                    pixels = np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
                pts = frame.pts
                if pts is None or (last is not None and pts <= last):
                    pts = 0 if last is None else last + (step if pts is None else 1)
                last = pts
                yield Frame(pixels, pts)


def _open_camera(number: int) -> Video:
    if platform.system() == "Linux":
        path = Path(f"/dev/video{number}")
        if not path.exists():
            raise UserError(f"there is no camera {number} ({path}); a video file is named by its path")
        return Video(path, "video4linux2")
    if platform.system() == "Darwin":
        return Video(f"{number}:none", "avfoundation")
    raise UserError("a camera can be named by number on Linux and macOS only; record a file and name that")


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key by which 2.png comes before 10.png."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _listed(path: Path) -> list[Path]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{path} is no text file that can be read; write the path of one picture a line") from None
    try:
        named = [check_name(line, absolute=True) for line in lines if line and not line.startswith("#")]
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if not named:
        raise UserError(f"{path} lists no pictures; write one path a line")
    found = [path.parent / line if (path.parent / line).is_file() else Path(line) for line in named]
    missing = [str(file) for file in found if not file.is_file()]
    if missing:
        raise UserError(f"{path} lists {len(missing)} pictures that do not exist, {missing[0]} first; correct the list")
    return found


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split()).rstrip(".")
