"""Photometric transforms of ``torchvision.transforms.v2`` by name.

Only those that leave every pixel where it is: moving pixels is the business of ``transforms.py``, which moves image and
labels by the same whole-number arithmetic and touches only what is seen.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from polyscale.config import Config

__all__ = ["ExtraTransform", "apply_extra"]

Name = Literal[
    "ColorJitter", "GaussianBlur", "GaussianNoise", "Grayscale", "JPEG", "RandomAdjustSharpness", "RandomAutocontrast",
    "RandomChannelPermutation", "RandomEqualize", "RandomGrayscale", "RandomInvert", "RandomPhotometricDistort",
    "RandomPosterize", "RandomSolarize",
]  # fmt: skip


class ExtraTransform(Config):
    """One transform of torchvision.

    Example:
        >>> ExtraTransform(name="RandomGrayscale", p=0.1).name
        'RandomGrayscale'
    """

    name: Name
    """A class of ``torchvision.transforms.v2``, such as ``RandomGrayscale``, ``GaussianBlur``, ``JPEG``."""
    p: float = Field(1.0, ge=0.0, le=1.0)
    """Probability that it is applied, also for transforms that have a ``p`` of their own."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Its other keyword arguments, such as ``{kernel_size: 5}``."""

    @model_validator(mode="after")
    def _can_be_made(self) -> "ExtraTransform":
        try:
            self.make()
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.name} does not take options {self.options}: {error}") from None
        return self

    def make(self) -> Any:
        """The transform, which is always applied."""
        import inspect

        from torchvision.transforms import v2

        kind = getattr(v2, self.name)
        options = {key: tuple(value) if isinstance(value, list) else value for key, value in self.options.items()}
        if "p" in options:
            raise ValueError("write p beside the name")
        if self.name == "Grayscale":
            options.setdefault("num_output_channels", 3)
        if "p" in inspect.signature(kind).parameters and self.name != "RandomPhotometricDistort":
            options["p"] = 1.0
        made = kind(**options)
        if self.name != "GaussianNoise":
            return made
        # In torchvision 0.21 it takes no bytes.
        return v2.Compose([v2.ToDtype(torch.float32, scale=True), made, v2.ToDtype(torch.uint8, scale=True)])


def apply_extra(
    pixels: NDArray[np.uint8], transforms: Sequence[ExtraTransform], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Apply each transform by its probability, in order.

    torchvision draws from torch's own random numbers; they are seeded from ``rng`` and put back afterwards.

    Args:
        pixels: (H, W, 3) RGB bytes.
        transforms: what is applied.
        rng: the only source of randomness.
    """
    chosen = [(rng.random() < transform.p, int(rng.integers(2**63))) for transform in transforms]
    if not any(applied for applied, _ in chosen):
        return pixels
    image = torch.from_numpy(np.array(pixels))  # a copy: Pillow's bytes cannot be written to
    image = image.permute(2, 0, 1)
    with torch.random.fork_rng(devices=[]):
        for transform, (applied, seed) in zip(transforms, chosen, strict=True):
            if applied:
                torch.manual_seed(seed)
                image = transform.make()(image)
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())
