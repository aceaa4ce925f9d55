"""The views of a frozen network, looked at once and kept on disk.

Each image has several variants: number 0 is the image itself, the others differ in size, colour and sharpness, so that
the attention does not learn from views that look better than those of new images.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from polyscale.attending.config import AttendConfig
from polyscale.crops.transforms import AugmentConfig, augment
from polyscale.data.items import SegmentationData
from polyscale.errors import UserError
from polyscale.files import write_atomically
from polyscale.multiscale import MultiScale
from polyscale.views import View, look

__all__ = ["CachedViews", "Looks"]


class Looks(NamedTuple):
    """One image as a frozen network sees it."""

    views: dict[float, View]
    """Scale -> logits (1, C, h, w) on the segmenter's grid, with features where they are asked for; float16."""
    labels: Tensor
    """(H, W) uint8 train ids."""


class CachedViews:
    """Views of a data set's images.

    Args:
        model: the frozen network, on its device and in evaluation mode.
        data: images with labels.
        config: scales and variants.
        folder: where views are kept.
        space: bytes that they may take there.
    """

    def __init__(
        self, model: MultiScale, data: SegmentationData, config: AttendConfig, folder: Path, space: float
    ) -> None:
        self.model, self.data, self.config, self.folder = model, data, config, folder
        self._left = space

    def __len__(self) -> int:
        return len(self.data)

    def read(self, index: int, variant: int = 0) -> Looks:
        """The views of one image, from disk where they are there.

        Raises:
            UserError: the image has no labels, or cannot be read.
        """
        path = self._path(index, variant)
        if path.exists():
            try:
                return _looks(load_file(path), self.config.scales)
            except (SafetensorError, OSError, KeyError):
                path.unlink()  # a damaged file is made again
        tensors = self._look(index, variant)
        size = sum(tensor.nbytes for tensor in tensors.values())
        if size <= self._left:
            self._left -= size
            with write_atomically(path) as temporary:
                save_file(tensors, temporary)
        return _looks(tensors, self.config.scales)

    def look_ahead(self, index: int, variant: int) -> None:
        """Make sure that the views of one image are on disk, as far as there is space for them."""
        path = self._path(index, variant)
        if path.exists():
            self._left -= path.stat().st_size
        elif self._left > 0:
            self.read(index, variant)

    def _path(self, index: int, variant: int) -> Path:
        return self.folder / f"{index:06d}-{variant}.safetensors"

    @torch.inference_mode()
    def _look(self, index: int, variant: int) -> dict[str, Tensor]:
        sample = self.data.read(index)
        if sample.labels is None:
            raise UserError(f"image {sample.name!r} has no mask; attention is learnt from labelled images")
        image, labels = torch.from_numpy(sample.image).permute(2, 0, 1).float() / 255, torch.from_numpy(sample.labels)
        if variant:
            rng = np.random.default_rng((self.config.seed, index, variant))
            change = AugmentConfig(
                crop=sample.labels.shape, scale=(0.8, 1.6), color_jitter=0.4, hue=0.03, blur=0.4, flip=0.5
            )
            image, labels = augment(sample.image, sample.labels, change, rng)
        device = next(self.model.parameters()).device
        tensors = {"labels": labels.to(torch.uint8).contiguous()}
        for scale in self.config.scales:
            features = self.config.reads == "both"
            view = look(self.model.segmenter, image[None].to(device), scale, features, grid=True)
            tensors[f"{scale:g}"] = view.logits.half().cpu().contiguous()
            if view.features is not None:
                tensors[f"{scale:g} features"] = view.features.half().cpu().contiguous()
        return tensors


def _looks(tensors: dict[str, Tensor], scales: tuple[float, ...]) -> Looks:
    views = {s: View(tensors[f"{s:g}"], features=tensors.get(f"{s:g} features")) for s in scales}
    return Looks(views, tensors["labels"])
