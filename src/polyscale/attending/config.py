"""Settings with which attention over views is learnt."""

from typing import Literal

from pydantic import Field, field_validator

from polyscale.config import Config
from polyscale.scales import check_scales

__all__ = ["AttendConfig"]


class AttendConfig(Config):
    """Settings of ``polyscale attend``."""

    scales: tuple[float, ...] = (0.5, 1.0, 2.0)
    """The scales that the attention is learnt for, 1 among them. It takes any others afterwards."""
    reads: Literal["views", "both"] = "views"
    """Input of the attention: probabilities and confidence of two views, or their features as well."""
    maps: Literal["one", "class"] = "class"
    """One map for all classes, or one for each."""
    channels: int = Field(48, ge=1, le=4096)
    """Width of the attention's hidden layers."""
    images: int = Field(100, ge=1)
    """Training images that are looked at, spread over all; more change little."""
    pixels: int = Field(1500, ge=1)
    """Labelled pixels of each of them that it learns from, fewer where ``cache_gigabytes`` does not suffice."""
    epochs: int = Field(6, ge=1)
    """How often each pixel is used."""
    batch_size: int = Field(1024, ge=2)
    """Pixels a step."""
    rare_classes: float = Field(0.25, ge=0, le=1)
    """Pixels of a class with the share f count f to the power of minus this; 0 counts all alike."""
    lr: float = Field(2e-3, gt=0, le=10)
    """Learning rate of AdamW at the start; it falls to zero."""
    weight_decay: float = Field(1e-2, ge=0, le=10)
    """AdamW's."""
    cache_gigabytes: float = Field(2.0, gt=0, le=1e6)
    """Disk space and memory for what the views say of these pixels."""
    hold_out: float = Field(0.2, gt=0, lt=1)
    """Share of the training images that judges the attention where there are no validation images."""
    controls: bool = False
    """Also learn what attention must be compared with: one weight for each class and scale, a temperature for each
    scale, and a head of equal size that sees scale 1 only.
    """
    seed: int = Field(0, ge=0, lt=2**63)
    """Every random draw comes from it."""

    @field_validator("scales")
    @classmethod
    def _possible(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        chosen = check_scales(scales)
        if len(chosen) < 2:
            raise ValueError("give at least two scales, for example [0.5, 1, 2]")
        return chosen
