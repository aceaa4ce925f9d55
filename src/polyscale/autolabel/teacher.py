"""The teacher in use: batches of images of one size to classes and confidence."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from polyscale.autolabel.records import file_digest
from polyscale.errors import UserError
from polyscale.inference.predictor import Precision, Predictor, load

__all__ = ["Looked", "Teacher"]


class Looked(NamedTuple):
    """What the teacher says of a batch."""

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
    """

    def __init__(
        self, path: str | Path, scales: Sequence[float] | None, flip: bool, device: str | None, precision: Precision
    ) -> None:
        self._predictor: Predictor = load(path, device, precision)
        self.fingerprint = file_digest(Path(path))
        self.label_space = self._predictor.label_space
        self.scales = self._predictor.check_scales(scales)
        self.flip = flip
        self.device = self._predictor.device

    @torch.inference_mode()
    def look(self, images: np.ndarray[Any, np.dtype[np.uint8]]) -> Looked:
        """Classes and confidence of images (N, H, W, 3) uint8.

        A batch that does not fit into memory is looked at one image at a time.

        Raises:
            UserError: one image does not fit into memory, or the network's output is not finite.
        """
        try:
            return self._look(images)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "allocate memory" not in str(error):
                raise
        if len(images) == 1:
            height, width = images.shape[1:3]
            raise UserError(
                f"an image of {width} x {height} pixels does not fit into memory; use fewer or smaller scales"
            )
        parts = [self.look(images[number : number + 1]) for number in range(len(images))]
        return Looked(np.concatenate([part.classes for part in parts]), np.concatenate([p.confidence for p in parts]))

    def _look(self, images: np.ndarray[Any, np.dtype[np.uint8]]) -> Looked:
        pixels = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).contiguous().float() / 255
        probabilities = self._probabilities(pixels)
        if self.flip:
            probabilities = (probabilities + self._probabilities(pixels.flip(3)).flip(3)) / 2
        confidence, classes = probabilities.max(dim=1)
        if not bool(confidence.isfinite().all()):
            raise UserError(
                "the teacher's output is not finite: its training diverged or the checkpoint is damaged; "
                "try an earlier checkpoint"
            )
        return Looked(classes.to(torch.uint8).cpu().numpy(), confidence.cpu().numpy())

    def _probabilities(self, pixels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._predictor.precision == "bfloat16"):
            logits: torch.Tensor = self._predictor.model(pixels, self.scales).logits
        return logits.float().softmax(dim=1)
