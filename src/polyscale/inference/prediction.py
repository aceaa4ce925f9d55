"""The prediction of one image, and the pictures, files and arrays made of it."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from polyscale import pictures
from polyscale.data.annotations.run_lengths import encode_run_lengths
from polyscale.data.annotations.write import coco_categories, coco_polygon, polygons_of
from polyscale.data.masks import write_mask
from polyscale.data.png import write_index_png
from polyscale.errors import UserError
from polyscale.files import write_atomically
from polyscale.labels import IGNORE, LabelSpace

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["OUTPUTS", "Prediction", "check_outputs"]

OUTPUTS = ("labels", "overlay", "confidence", "attention")
"""Outputs that ``Prediction.save`` can write, each into a folder of that name."""

_LONGEST_JPEG = 65_500
_WIDEST_SHOWN = 1024
"""Width in pixels of the picture that a notebook shows, at most."""


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

    def legend(self, width: int = 640) -> Image.Image:
        """Colour and name of the classes that are in the picture, ``width`` pixels wide."""
        present = np.unique(self.labels)
        classes = [item for train_id, item in enumerate(self.label_space.classes) if train_id in present]
        return pictures.legend(classes, width)

    def _repr_png_(self) -> bytes:
        """The picture that a notebook shows: the overlay, made smaller where it is wide, above its legend."""
        shown = self.overlay()
        if shown.width > _WIDEST_SHOWN:
            height = max(1, round(shown.height * _WIDEST_SHOWN / shown.width))
            shown = shown.resize((_WIDEST_SHOWN, height), Image.Resampling.BOX)
        below = self.legend(max(shown.width, 320))
        sheet = Image.new("RGB", (max(shown.width, below.width), shown.height + below.height), "white")
        sheet.paste(shown, (0, 0))
        sheet.paste(below, (0, shown.height))
        buffer = io.BytesIO()
        sheet.save(buffer, "PNG")
        return buffer.getvalue()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        """``numpy.asarray(prediction)``: the labels."""
        return np.array(self.labels, dtype) if copy else np.asarray(self.labels, dtype)

    def tensors(self) -> "dict[str, Tensor]":
        """Labels (H, W) int64, confidence (H, W) and, where there are any, probabilities (C, H, W), for torch.

        The floats share their memory with the prediction.
        """
        import torch

        found = {"labels": torch.from_numpy(self.labels.astype(np.int64)), "confidence": self.confidence}
        if self.probabilities is not None:
            found["probabilities"] = self.probabilities
        return {name: torch.as_tensor(value) for name, value in found.items()}

    def to_coco(
        self, name: str = "image", image_id: int = 1, *, rle: bool = False, tolerance: float = 0.0, smallest: int = 1
    ) -> dict[str, Any]:
        """The labels as a COCO data set of one image, for tools that read these, such as pycocotools or supervision.

        Each annotation has a ``score``: the mean confidence of its pixels, of polygons those of its box that are of
        the class.

        Args:
            name: the image's file name.
            image_id: its number.
            rle: one run-length mask for each class, as in COCO-Stuff. Else one polygon for each connected region.
            tolerance: of polygons: corners that lie within so many pixels of a line are left out; 0 keeps every pixel.
            smallest: regions (or classes) of fewer pixels are left out.

        Returns:
            Plain values, as JSON takes them: ``images``, ``annotations`` and ``categories``.
        """
        if rle:
            annotations = self._run_lengths(image_id, smallest)
        else:
            regions = polygons_of(self.labels, tolerance, smallest)
            annotations = [
                coco_polygon(train_id, ring, image_id, number) for number, (train_id, ring) in enumerate(regions, 1)
            ]
        for annotation in annotations:
            left, top, width, height = (int(side) for side in annotation["bbox"])
            box = np.s_[top : top + height, left : left + width]
            own = self.labels[box] == annotation["category_id"] - 1
            annotation["score"] = round(float(self.confidence[box][own].mean()), 4)
        rows, columns = self.labels.shape
        image = {"id": image_id, "file_name": name, "height": rows, "width": columns}
        return {"images": [image], "annotations": annotations, "categories": coco_categories(self.label_space)}

    def _run_lengths(self, image_id: int, smallest: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for train_id in np.unique(self.labels[self.labels != IGNORE]).tolist():
            mask = self.labels == train_id
            if (pixels := int(mask.sum())) < smallest:
                continue
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            left, top = int(columns[0]), int(rows[0])
            found.append(
                {
                    "id": len(found) + 1,
                    "image_id": image_id,
                    "category_id": train_id + 1,
                    "segmentation": {"counts": encode_run_lengths(mask), "size": list(mask.shape)},
                    "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
                    "area": pixels,
                    "iscrowd": 0,
                }
            )
        return found

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
