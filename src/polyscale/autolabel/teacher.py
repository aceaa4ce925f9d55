"""The teacher in use: batches of images of one size to classes and confidence."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from polyscale.autolabel.records import file_digest
from polyscale.looker import Looker, Precision
from polyscale.models.checkpoint import load_checkpoint
from polyscale.models.finding import find_network
from polyscale.tiles import ArrayPixels, Tiles, classify_in_tiles

__all__ = ["Looked", "Teacher"]


class Looked(NamedTuple):
    """The teacher's output for a batch."""

    classes: np.ndarray[Any, np.dtype[np.uint8]]
    """(N, H, W) train ids of the most probable class."""
    confidence: np.ndarray[Any, np.dtype[np.float32]]
    """(N, H, W), its probability."""


class Teacher:
    """A checkpoint, and how it looks at images.

    Attributes:
        fingerprint: SHA-256 of the checkpoint's bytes.
        label_space: of its classes.
        scales: finest first.
        device: of the network.

    Args:
        path: a Polyscale checkpoint.
        scales: to look at; None for its own.
        flip: also look at the mirrored image and average both.
        device: as for ``polyscale.load``.
        precision: as for ``polyscale.load``.
        trust: as for ``polyscale.load``.
        tiles: how images are cut that are larger than a tile; None looks at whole ones.
    """

    def __init__(
        self,
        path: str | Path,
        scales: Sequence[float] | None,
        flip: bool,
        device: str | None,
        precision: Precision,
        trust: Collection[str] = (),
        tiles: Tiles | None = None,
    ) -> None:
        checkpoint = load_checkpoint(path, trust=trust)
        self._looker = Looker(checkpoint.model, device, precision)
        self.fingerprint = file_digest(find_network(path))
        self.label_space = checkpoint.label_space
        self.scales = self._looker.choose(scales)
        self.flip = flip
        self._tiles = tiles
        self.device = self._looker.device

    def look(self, images: np.ndarray[Any, np.dtype[np.uint8]]) -> Looked:
        """Classes and confidence of images (N, H, W, 3) uint8.

        Raises:
            UserError: one image does not fit into memory, or the network's output is not finite.
        """
        if self._tiles is not None and max(images.shape[1:3]) > self._tiles.tile:
            parts = [
                classify_in_tiles(self._looker, ArrayPixels(image), self._tiles, self.scales, self.flip)
                for image in images
            ]
            labels, confidence = (torch.cat(maps).numpy() for maps in list(zip(*parts, strict=True))[:2])
            return Looked(labels, confidence)
        pixels = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).contiguous().float() / 255
        found = self._looker.classify(pixels, self.scales, self.flip)
        return Looked(found.labels.cpu().numpy(), found.confidence.cpu().numpy())
