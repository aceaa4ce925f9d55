"""What a predictor says of one image, and the pictures and files made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from polyscale import pictures
from polyscale.data.masks import write_mask
from polyscale.data.png import write_index_png
from polyscale.errors import UserError
from polyscale.files import write_atomically
from polyscale.labels import LabelSpace

__all__ = ["OUTPUTS", "Prediction", "check_outputs"]

OUTPUTS = ("labels", "overlay", "confidence", "attention")
"""What ``Prediction.save`` can write, each into a folder of that name."""

_LONGEST_JPEG = 65_500


@dataclass(frozen=True, eq=False)
class Prediction:
    """The result for one image, at the image's own size."""

    labels: np.ndarray[Any, np.dtype[np.uint8]]
    """Most probable class, (H, W) train ids 0 .. C-1."""
    probabilities: np.ndarray[Any, np.dtype[np.float32]] | None
    """Class probabilities, (C, H, W), summing to 1 over the classes; None where nobody asked for them."""
    confidence: np.ndarray[Any, np.dtype[np.float32]]
    """Probability of the most probable class, (H, W) in [1/C, 1]."""
    attention: Mapping[float, np.ndarray[Any, np.dtype[np.float32]]]
    """Scale -> its effective weight in each pixel, (H, W), finest scale first; they sum to 1 over the scales (those of
    explicit attention without softmax are as the network uses them)."""
    label_space: LabelSpace
    """Names, colours and dataset ids of the classes."""
    image: np.ndarray[Any, np.dtype[np.uint8]]
    """The image, (H, W, 3) RGB."""

    def overlay(self, alpha: float = 0.5, lines: bool = True) -> Image.Image:
        """Class colours over the image; ``alpha`` is their share, ``lines`` draws class boundaries in full colour."""
        return pictures.overlay(self.image, self.labels, self.label_space, alpha, lines)

    def labels_image(self) -> Image.Image:
        """Index picture of dataset ids with the classes' colours as palette; ``label_space.encode`` reads it back."""
        return pictures.label_map(self.labels, self.label_space)

    def confidence_image(self) -> Image.Image:
        """8-bit grey picture, ``round(255 * confidence)``."""
        return Image.fromarray(pictures.to_grey8(self.confidence))

    def attention_image(self, scale: float) -> Image.Image:
        """Heat map of one scale's weight: a palette picture whose index is ``round(255 * weight)``.

        Raises:
            UserError: the prediction did not look at this scale.
        """
        if float(scale) not in self.attention:
            raise UserError(f"no attention for scale {scale:g}; this prediction has {_listed(self.attention)}")
        return pictures.heat_map(self.attention[float(scale)])

    def save(self, folder: str | Path, name: str, outputs: Sequence[str] = OUTPUTS) -> list[Path]:
        """Write the result into sub-folders of ``folder``; files that exist are replaced, each in one step.

        ``labels/NAME.png`` (dataset ids, palette), ``overlay/NAME.jpg``, ``confidence/NAME.png`` (8 bits),
        ``attention/NAME_0.5x.png`` and so on for each scale.

        Args:
            folder: where to; it is made if missing.
            name: of the files, without suffix; may contain ``/``.
            outputs: which of ``OUTPUTS``.

        Returns:
            The files written.

        Raises:
            UserError: an unknown output, or a file cannot be written.
        """
        check_outputs(outputs)
        folder = Path(folder)
        written: list[Path] = []
        if "labels" in outputs:
            written.append(folder / "labels" / f"{name}.png")
            write_mask(written[-1], self.labels, self.label_space)
        if "overlay" in outputs:
            suffix = "jpg" if max(self.labels.shape) <= _LONGEST_JPEG else "png"
            written.append(folder / "overlay" / f"{name}.{suffix}")
            with write_atomically(written[-1]) as temporary:
                # Full colour resolution in JPEG (PNG takes no notice): thin classes would lose their colour otherwise.
                self.overlay().save(temporary, quality=92, subsampling=0)
        if "confidence" in outputs:
            written.append(folder / "confidence" / f"{name}.png")
            write_index_png(written[-1], pictures.to_grey8(self.confidence), None)
        if "attention" in outputs:
            for scale, weight in self.attention.items():
                written.append(folder / "attention" / f"{name}_{scale:g}x.png")
                write_index_png(written[-1], pictures.to_grey8(weight), pictures.heat_palette())
        return written


def check_outputs(outputs: Sequence[str]) -> None:
    """Make sure that each name is one of ``OUTPUTS``.

    Raises:
        UserError: one is not, or there is none.
    """
    unknown = [name for name in outputs if name not in OUTPUTS]
    if unknown or not outputs:
        raise UserError(f"unknown output {', '.join(map(repr, unknown)) or '(none)'}; choose from {', '.join(OUTPUTS)}")


def _listed(scales: Mapping[float, Any]) -> str:
    return ", ".join(f"{scale:g}" for scale in scales)
