"""Another background behind what is kept, in an image or a video."""

import contextlib
from collections.abc import Callable, Collection, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from typing_extensions import Unpack

from polyscale.data.images import read_image
from polyscale.errors import UserError
from polyscale.files import refuse_address, write_atomically
from polyscale.inference.predictor import Predictor
from polyscale.labels import LabelSpace
from polyscale.video.backdrop import Backdrop, open_backdrop
from polyscale.video.matte import compose, foreground, guided, without_islands
from polyscale.video.run import Progress, VideoSummary, Watcher, Watching, convert
from polyscale.video.sink import VIDEO_SUFFIXES, check_target
from polyscale.video.source import Array, Frame, open_source

__all__ = ["PICTURE_SUFFIXES", "Scene", "background_of_image", "background_of_video", "classes_to_keep"]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""Suffixes of the pictures that can be written."""

TRANSPARENT = "transparent"

PERSON = ("person", "people")
"""Of a network that knows parts of a person and a background, but no person, everything except the background."""
_PARTS = {"skin", "hair", "face"}
_BACKGROUND = "background"


class Scene(NamedTuple):
    """The classes that are kept, and the backdrop behind them."""

    keep: Sequence[str]
    """Names of classes."""
    backdrop: str = "blur"
    """``blur``, a colour, the file of an image or a video, or (for pictures) ``transparent``."""
    refine: bool = True
    """Let the edge follow the image's edges."""
    islands: bool = False
    """Also keep regions of less than a tenth of the largest."""


def classes_to_keep(names: Sequence[str], space: LabelSpace) -> list[int]:
    """Train ids of classes by name; ``person`` may stand for all its parts (see ``PERSON``).

    Raises:
        UserError: no name, an unknown one, or all of the classes.
    """
    known = {name.casefold(): number for number, name in enumerate(space.names)}
    if _BACKGROUND in known and _PARTS & set(known):
        parts = [name for name in known if name != _BACKGROUND]
        names = [part for name in names for part in (parts if _is_person(name, known) else [name])]
    listed = ", ".join(space.names)
    unknown = [name for name in names if name.casefold() not in known]
    if unknown:
        near = get_close_matches(unknown[0].casefold(), known, n=1)
        meant = f", did you mean {near[0]!r}?" if near else ""
        raise UserError(
            f"the network knows no class {unknown[0]!r}{meant}; name with --keep some of its classes: {listed}"
        )
    if not names:
        raise UserError(f"name the classes to keep; the network's are {listed}")
    found = sorted({known[name.casefold()] for name in names})
    if len(found) == space.num_classes:
        raise UserError("all classes are kept, which leaves no background; keep fewer")
    return found


def _is_person(name: str, known: Collection[str]) -> bool:
    return name.casefold() in PERSON and name.casefold() not in known


def background_of_image(
    predictor: Predictor,
    source: str | Path,
    out: str | Path,
    scene: Scene,
    *,
    scales: Sequence[float] | None = None,
    flip: bool = False,
    size: tuple[int, int] | None = None,
    replace: bool = False,
) -> float:
    """Put another background behind the kept classes of an image.

    Args:
        predictor: the network.
        source: the image file.
        out: the file; its suffix is one of ``PICTURE_SUFFIXES``.
        scene: what is kept, and what is put behind it.
        scales: to look at; by default the network's own.
        flip: also look at the mirrored image, and average both.
        size: (H, W) at which the network sees the image; by default its own.
        replace: a file of that name may be replaced.

    Returns:
        The share of the picture that is kept, 0 to 1.

    Raises:
        UserError: the image cannot be read, an unknown class or background, or the file cannot be written.
    """
    out = Path(out)
    check_target(out, source, replace, PICTURE_SUFFIXES)
    if not Path(source).exists():
        refuse_address(source)
    clear = scene.backdrop == TRANSPARENT
    if clear and out.suffix.lower() in (".jpg", ".jpeg"):
        raise UserError(f"{out.suffix} files know no transparency; choose .png or .webp")
    kept = classes_to_keep(scene.keep, predictor.label_space)
    watcher = Watcher(predictor, scales, flip, size)
    pixels = read_image(source)
    with contextlib.closing(open_backdrop("blur" if clear else scene.backdrop)) as behind:
        share = _share(watcher.look(pixels).probabilities, kept, scene)
        picture = _paint(pixels, share, scene.refine, None if clear else behind, 0.0)
    with write_atomically(out) as temporary:
        Image.fromarray(picture).save(temporary, quality=92, subsampling=0)
    return float((share > 0.5).float().mean())


def background_of_video(
    predictor: Predictor,
    source: str | Path,
    out: str | Path,
    scene: Scene,
    *,
    rate: float = 25.0,
    sound: bool = True,
    replace: bool = False,
    progress: Progress | None = None,
    **watching: Unpack[Watching],
) -> VideoSummary:
    """Put another background behind the kept classes of a video.

    Args:
        predictor: the network.
        source: as for ``label_video``.
        out: the file; its suffix is one of ``VIDEO_SUFFIXES``.
        scene: what is kept, and what is put behind it.
        rate: frames a second where the source is pictures.
        sound: copy the sound.
        replace: a file of that name may be replaced.
        progress: see ``Progress``.
        **watching: ``scales``, ``flip``, ``size``, ``every`` and ``smooth``, as for ``Watcher``.

    Raises:
        UserError: the source cannot be read, an unknown class or background, or the file cannot be written.
    """
    out = Path(out)
    check_target(out, source, replace, VIDEO_SUFFIXES)
    if scene.backdrop == TRANSPARENT:
        raise UserError("a video cannot be transparent; choose blur, a colour, or the file of an image or a video")
    kept = classes_to_keep(scene.keep, predictor.label_space)
    watcher = Watcher(predictor, **watching)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(contextlib.closing(open_source(source, rate)))
        behind = stack.enter_context(contextlib.closing(open_backdrop(scene.backdrop)))
        start: list[int] = []

        def look(frame: Frame) -> Callable[[], Array]:
            start[:] = start or [frame.pts]
            seconds = float((frame.pts - start[0]) * opened.time_base)
            share = _share(watcher.look(frame.pixels).probabilities, kept, scene)
            return lambda: _paint(frame.pixels, share, scene.refine, behind, seconds)

        num_frames, timing = convert(opened, out, opened.size, look, sound, progress)
    return watcher.summary(out, num_frames, timing, opened.problem)


def _share(probabilities: Tensor, kept: Sequence[int], scene: Scene) -> Tensor:
    """How far each pixel belongs to the kept classes, (1, 1, H, W) in [0, 1]."""
    share = probabilities[:, list(kept)].sum(1, keepdim=True)
    return share if scene.islands else without_islands(share)


@torch.inference_mode()
def _paint(pixels: Array, share: Tensor, refine: bool, behind: Backdrop | None, seconds: float) -> Array:
    """The picture of one frame.

    Args:
        pixels: (H, W, 3) RGB.
        share: (1, 1, H, W), the probability of the kept classes.
        refine: let the edge follow the image's edges.
        behind: None for transparency.
        seconds: when the frame is shown.

    Returns:
        (H, W, 3) RGB, or (H, W, 4) with transparency.
    """
    image = torch.from_numpy(pixels).to(share.device).permute(2, 0, 1)[None].float() / 255
    alpha = guided(share, image) if refine else share.clamp(0, 1)
    front = foreground(image, alpha)
    shown = (
        torch.cat([front, alpha], 1) if behind is None else compose(front, alpha, behind.behind(image, alpha, seconds))
    )
    return np.ascontiguousarray((shown[0] * 255).round().byte().permute(1, 2, 0).cpu().numpy())
