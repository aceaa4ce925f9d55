"""The settings of auto-labelling that decide what is written.

Finished work is recognised by their digest. So what changes no label, such as the number of threads, is not a setting.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from polyscale.config import Config
from polyscale.errors import UserError, unknown
from polyscale.labels import LabelSpace

__all__ = ["COARSE_MODES", "FORMAT", "AutolabelConfig", "CoarseMode", "check_class_names", "digest"]

FORMAT = 3
"""Version of the output folder; raised when the same settings would give other files."""

CoarseMode = Literal["keep", "gaps", "veto", "agree", "only"]
COARSE_MODES: tuple[CoarseMode, ...] = ("keep", "gaps", "veto", "agree", "only")


class AutolabelConfig(Config):
    """Settings of auto-labelling; the defaults are the article's (arXiv:2005.10821, section 3.3)."""

    threshold: float = Field(0.5, ge=0, le=1)
    """A pixel gets the teacher's class where the class's probability is at least this, 0 to 1."""
    class_thresholds: dict[str, float] = Field(default_factory=dict)
    """Other thresholds by class name."""
    keep: float | None = Field(None, gt=0, le=1)
    """Choose each class's threshold so that this fraction of its pixels is kept, above 0 to 1; None uses ``threshold``.
    """
    class_keep: dict[str, float] = Field(default_factory=dict)
    """Other fractions by class name, also where ``keep`` is None."""
    keep_sample: int = Field(500, ge=1)
    """Number of images, spread evenly over the set, from which such thresholds are chosen."""
    scales: tuple[float, ...] | None = None
    """Scales of the teacher, 1 among them; None for the teacher's own."""
    flip: bool = False
    """Also look at the mirrored image, and average both."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number type of the network."""
    tile: int | None = Field(None, ge=32)
    """Look at images in tiles of this side in pixels; None at whole images."""
    overlap: int | None = Field(None, ge=0)
    """Pixels that neighbouring tiles share; None for an eighth of the tile."""
    coarse: CoarseMode = "keep"
    """Effect of a coarse label on its pixel. ``keep``: the pixel gets it, and the teacher labels the rest. ``gaps``:
    the pixel is ignored, and the teacher labels the rest. ``veto``: the pixel is ignored if the teacher disagrees, and
    the teacher labels the rest. ``agree``: the pixel is ignored if the teacher disagrees, and so is the rest. ``only``:
    the pixel gets it, and the teacher never gives this class.
    """
    class_coarse: dict[str, CoarseMode] = Field(default_factory=dict)
    """Other modes by class name."""
    drop: tuple[str, ...] = ()
    """Names of classes that become *ignored*, whoever gives them."""
    min_region: int = Field(0, ge=0)
    """Connected regions of fewer pixels become *ignored*, unless they hold a coarse label; 0 keeps all."""
    confidence: bool = False
    """Store confidence maps, so that other thresholds can be applied later."""
    levels: tuple[float, ...] = Field(
        (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99), min_length=1, max_length=254
    )
    """Lower bounds of the stored levels, ascending, each above 0 and below 1; one more level lies below them."""
    confidence_stride: int | None = Field(None, ge=1, le=16)
    """A stored value covers a square of this many pixels a side, and is the lowest of them; None for 4 in images of a
    megapixel and more, and 2 in smaller ones. With 1, other thresholds give exactly the labels of a run with these
    thresholds.
    """

    @field_validator("class_thresholds", "class_keep")
    @classmethod
    def _shares(cls, values: dict[str, float]) -> dict[str, float]:
        for name, value in values.items():
            if not 0 <= value <= 1:
                raise ValueError(f"the value of class {name!r} must lie in 0 to 1, got {value:g}")
        return values

    @field_validator("levels")
    @classmethod
    def _ascending(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if list(levels) != sorted(set(levels)) or levels[0] <= 0 or levels[-1] >= 1:
            raise ValueError(f"levels must ascend, above 0 and below 1, got {list(levels)}")
        return levels

    @model_validator(mode="after")
    def _one_rule_a_class(self) -> "AutolabelConfig":
        both = sorted(set(self.class_thresholds) & set(self.class_keep))
        if both:
            raise ValueError(f"class {both[0]!r} has both a threshold and a fraction to keep; give one of them")
        return self

    @property
    def chooses(self) -> bool:
        """Whether a threshold is to be chosen by the fraction that it keeps."""
        return self.keep is not None or bool(self.class_keep)

    @property
    def class_names(self) -> tuple[str, ...]:
        """All class names in these settings."""
        return (*self.class_thresholds, *self.class_keep, *self.class_coarse, *self.drop)

    @property
    def stored_levels(self) -> tuple[float, ...]:
        """Lower bounds of all stored levels: 0, ``levels``, and 1 for pixels with a coarse label."""
        return (0.0, *self.levels, 1.0)

    def deciding(self, scales: Sequence[float], coarse: str | None, frame: str | None) -> dict[str, Any]:
        """All that decides a label beside the teacher, as plain values; settings without effect are left out.

        Args:
            scales: of the teacher.
            coarse: digest of how coarse labels are read; None without them.
            frame: digest of the frame mask; None without it.
        """
        idle = {"coarse", "class_coarse"} if coarse is None else set()
        idle |= set() if self.chooses else {"keep", "class_keep", "keep_sample"}
        idle |= set() if self.confidence else {"levels", "confidence_stride"}
        idle |= set() if self.tile is not None else {"tile", "overlap"}
        values = self.model_dump(mode="json", exclude=idle)
        return values | {"scales": sorted(scales), "drop": sorted(self.drop), "coarse_labels": coarse, "frame": frame}


def check_class_names(config: AutolabelConfig, space: LabelSpace) -> None:
    """Make sure that the label space has each class that the settings name.

    Raises:
        UserError: it lacks one.
    """
    for name in config.class_names:
        if name not in space.names:
            raise UserError(f"label space {space.name!r}: {unknown('class', name, space.names)}")


def digest(values: Any) -> str:
    """Short digest of plain values; equal values have equal digests."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
