"""Turns the bytes of an image into the maps that the page shows: the same 8-bit maps as in an evaluation's gallery."""

import base64
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from polyscale.data.images import decode_image, to_rgb
from polyscale.errors import UserError
from polyscale.evaluation.gallery import write_image
from polyscale.evaluation.recording import scale_name, seen
from polyscale.evaluation.rows import AVERAGE_PROBABILITIES, FUSED, comparisons
from polyscale.inference.predictor import Predictor
from polyscale.looker import weights_of
from polyscale.views import at_input_sizes

__all__ = ["MOST_PIXELS", "look_at"]

MOST_PIXELS = 100_000_000
"""The largest image that the page takes, in pixels; it is made smaller before the network looks at it."""


def look_at(predictor: Predictor, content: bytes, name: str, scales: Sequence[float], longest: int) -> dict[str, Any]:
    """Look at one image.

    Args:
        predictor: the network.
        content: of the image's file.
        name: of the image, for messages.
        scales: to look at.
        longest: side in pixels that the image is made smaller to.

    Returns:
        Name, a note (size and time), and the maps as the page's program reads them.

    Raises:
        UserError: the image cannot be read, or does not fit into memory at these scales.
    """
    started = time.perf_counter()
    pixels, size = _pixels(content, name, longest)
    with tempfile.TemporaryDirectory(prefix="polyscale-") as folder:
        try:
            about = _write(predictor, pixels, scales, Path(folder))
        except (MemoryError, RuntimeError) as error:  # torch's own error for GPUs is a RuntimeError too
            if "memory" not in str(error):
                raise
            raise UserError(f"{name} does not fit into memory at these scales; choose a smaller longest side") from None
        files = {path.stem: base64.b64encode(path.read_bytes()).decode("ascii") for path in Path(folder).iterdir()}
    height, width = pixels.shape[:2]
    smaller = "" if size == (width, height) else f", made smaller from {size[0]} x {size[1]}"
    return {
        "name": name,
        "note": f"{width} x {height}{smaller} · {time.perf_counter() - started:.1f} s",
        "stored": {"size": [height, width], "logits": about["logits"], "files": files},
    }


def _pixels(content: bytes, name: str, longest: int) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], tuple[int, int]]:
    """The image (H, W, 3), not larger than wanted, and its own width and height."""
    rgb = to_rgb(decode_image(content, name, MOST_PIXELS))
    size = (rgb.shape[1], rgb.shape[0])
    if max(size) > longest:
        picture = Image.fromarray(rgb)
        factor = longest / max(size)
        smaller = (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))
        rgb = np.array(picture.resize(smaller, Image.Resampling.LANCZOS, reducing_gap=3.0))
    return rgb, size


@torch.inference_mode()
def _write(
    predictor: Predictor, pixels: np.ndarray[Any, np.dtype[np.uint8]], scales: Sequence[float], folder: Path
) -> dict[str, Any]:
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous().float() / 255
    looker, size = predictor.looker, pixels.shape[:2]
    chosen = looker.choose(scales)
    fused = looker.see(images, chosen)
    weights = weights_of(predictor.model, fused, size) if len(chosen) > 1 else None
    maps = {FUSED: seen(fused.logits[0], probabilities=False)}
    if len(chosen) > 1:
        for row, scores in comparisons(at_input_sizes(fused.views, size), predictor.model.method):
            average = row == AVERAGE_PROBABILITIES
            maps["average" if average else scale_name(row)] = seen(scores, probabilities=average)
            if average:
                break
    return write_image(folder, pixels, None, maps, weights, fused.views)
