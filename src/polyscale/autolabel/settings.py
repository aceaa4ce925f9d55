"""What decides the labels: thresholds, scales, the coarse labels' part, what is left out and what is stored.

Unusual here: only settings that change a label or a stored file belong into ``AutolabelConfig``; its digest is what
recognises finished work. How many images are looked at together, or by how many threads, is not among them.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from polyscale.config import Config
from polyscale.errors import UserError
from polyscale.labels import LabelSpace

__all__ = ["COARSE_MODES", "FORMAT", "AutolabelConfig", "CoarseMode", "by_class", "check_class_names", "digest"]

FORMAT = 3
"""Of the output folder; raised when the same settings would give other files."""

CoarseMode = Literal["keep", "gaps", "veto", "agree", "only"]
COARSE_MODES: tuple[CoarseMode, ...] = ("keep", "gaps", "veto", "agree", "only")


class AutolabelConfig(Config):
    """Settings of auto-labelling; the defaults are the article's (arXiv:2005.10821, section 3.3).

    Attributes:
        threshold: a pixel keeps the teacher's class where its probability is at least this, 0 to 1.
        class_thresholds: other thresholds by class name.
        keep: choose each class's threshold such that this share of its pixels is kept, above 0 to 1; None uses
            ``threshold``.
        class_keep: other shares by class name, also where ``keep`` is None.
        keep_sample: images, evenly spread over the set, from which such thresholds are chosen.
        scales: to look at, 1 among them; None for the teacher's own.
        flip: also look at the mirrored image and average both.
        precision: number type of the network.
        coarse: what a coarse label does to its pixel: ``keep`` (it stands; the teacher fills the gaps), ``gaps`` (it is
            ignored: only the gaps are labelled), ``veto`` (ignored where the teacher says otherwise; gaps are the
            teacher's), ``agree`` (only where both say the same; gaps are ignored), ``only`` (it stands, and the teacher
            never gives the class).
        class_coarse: other modes by class name.
        drop: names of classes that become *ignored*, the teacher's and the coarse label's.
        min_region: connected regions of fewer pixels become *ignored*; 0 keeps all. Regions that hold a coarse label
            stay.
        confidence: store a quantised confidence map, so that the labels can be thresholded again.
        levels: lower bounds of the stored levels, ascending, each above 0 and below 1; one more level lies below them.
        confidence_stride: each stored value covers this many pixels in height and width (the lowest of them); None for
            4 in images of a megapixel and more, and 2 in smaller ones. With 1, thresholding again gives exactly the
            labels of a run with that threshold.
    """

    threshold: float = Field(0.5, ge=0, le=1)
    class_thresholds: dict[str, float] = Field(default_factory=dict)
    keep: float | None = Field(None, gt=0, le=1)
    class_keep: dict[str, float] = Field(default_factory=dict)
    keep_sample: int = Field(500, ge=1)
    scales: tuple[float, ...] | None = None
    flip: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    coarse: CoarseMode = "keep"
    class_coarse: dict[str, CoarseMode] = Field(default_factory=dict)
    drop: tuple[str, ...] = ()
    min_region: int = Field(0, ge=0)
    confidence: bool = False
    levels: tuple[float, ...] = Field(
        (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99), min_length=1, max_length=254
    )
    confidence_stride: int | None = Field(None, ge=1, le=16)

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
            raise ValueError(f"class {both[0]!r} has both a threshold and a share to keep; give one")
        return self

    @property
    def chooses(self) -> bool:
        """Whether a threshold is chosen by the share that it keeps."""
        return self.keep is not None or bool(self.class_keep)

    @property
    def class_names(self) -> tuple[str, ...]:
        """All class names that are mentioned."""
        return (*self.class_thresholds, *self.class_keep, *self.class_coarse, *self.drop)

    @property
    def stored_levels(self) -> tuple[float, ...]:
        """Lower bounds of all stored values: 0, ``levels``, and 1 for pixels of the coarse label."""
        return (0.0, *self.levels, 1.0)


def check_class_names(config: AutolabelConfig, space: LabelSpace) -> None:
    """Make sure that each class that the settings mention is one of the label space.

    Raises:
        UserError: one is not.
    """
    for name in config.class_names:
        if name not in space.names:
            raise UserError(
                f"no class {name!r} in label space {space.name!r}; its classes are {', '.join(space.names)}"
            )


def by_class(space: LabelSpace, default: float, values: Mapping[str, float]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A value for each train id, (256,) float32: ``values`` by class name, else ``default``."""
    table = np.full(256, default, dtype=np.float32)
    for train_id, name in enumerate(space.names):
        table[train_id] = values.get(name, default)
    return table


def digest(values: Any) -> str:
    """Short fingerprint of plain values: equal values have equal digests."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
