"""What a page shows, as plain values: a caller fills these in from the JSON of an evaluation and from pictures.

Every part but the title may be left out; the page then has no such section. Scores are fractions (0.642, not 64.2):
the page chooses how they are printed. A score that does not exist (a class that is nowhere in the data) is None.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image

__all__ = [
    "METRICS",
    "Card",
    "ClassResult",
    "Comparison",
    "Curve",
    "Example",
    "Metric",
    "PageData",
    "Picture",
    "Row",
    "Strip",
    "Table",
]


@dataclass(frozen=True)
class Card:
    """One figure at the top of the page."""

    label: str
    value: str
    """As it is printed, unit included."""
    note: str = ""


@dataclass(frozen=True)
class Metric:
    """One column of the comparison."""

    key: str
    """Under which ``Row.scores`` holds it."""
    title: str
    kind: Literal["percent", "number"] = "percent"
    """Printed as 64.2, or as 0.021."""
    higher_is_better: bool = True
    note: str = ""
    """What it means, shown when pointed at."""


METRICS = (
    Metric("mean_iou", "mIoU", note="Intersection over union, mean over classes"),
    Metric("pixel_accuracy", "Pixel accuracy", note="Share of pixels that are right"),
    Metric(
        "mean_boundary_iou", "Boundary IoU", note="Intersection over union near class boundaries, mean over classes"
    ),
    Metric(
        "expected_calibration_error",
        "ECE",
        "number",
        higher_is_better=False,
        note="Expected calibration error: lower is better",
    ),
)
"""The columns that a comparison usually has, with the keys of an evaluation's JSON."""


@dataclass(frozen=True)
class Row:
    """One way of combining scales in the comparison."""

    name: str
    scores: Mapping[str, Any]
    """Metric key -> score as a fraction, or None; other keys are left alone, so that an evaluation's row can be given
    as it is."""
    note: str = ""
    main: bool = False
    """The row that the page is about; it stands out."""


@dataclass(frozen=True)
class Comparison:
    """Ways of combining scales side by side; the best of each column is marked."""

    rows: Sequence[Row]
    metrics: Sequence[Metric] = METRICS
    note: str = ""


@dataclass(frozen=True)
class ClassResult:
    """One class: its IoU in each row, and the mean weight that its pixels give each scale."""

    name: str
    color: tuple[int, int, int]
    scores: Mapping[str, float | None] = field(default_factory=dict)
    """Name of a column (a scale alone, or fused) -> IoU as a fraction."""
    attention: Mapping[float, float | None] = field(default_factory=dict)
    """Scale -> mean effective weight as a fraction."""
    pixel_fraction: float | None = None
    """Share of the labelled pixels that are of this class."""


@dataclass(frozen=True)
class Curve:
    """One quantity over the training."""

    title: str
    points: Sequence[tuple[float, float]]
    """(step, value) in rising order; values that are not finite leave a gap."""
    kind: Literal["percent", "number"] = "number"
    noisy: bool = False
    """Draw a moving average over the points themselves."""
    x_name: str = "step"
    """What the points lie over, for those who cannot see the chart."""


@dataclass(frozen=True)
class Table:
    """Any other table, its cells as they are printed; the first column names the row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """One picture of the gallery."""

    caption: str
    image: Image.Image
    alt: str = ""
    """What it shows, for those who cannot see it; by default the caption and the example's name."""


@dataclass(frozen=True)
class Strip:
    """Pictures of one example that belong side by side."""

    pictures: Sequence[Picture]
    title: str = ""
    heat: bool = False
    """They are heat maps: the strip gets a scale of colours from 0 to 1."""


@dataclass(frozen=True)
class Example:
    """One image of the gallery and what was made of it."""

    name: str
    strips: Sequence[Strip]
    note: str = ""


@dataclass(frozen=True)
class PageData:
    """A whole page."""

    title: str
    summary: str = ""
    """One sentence: what was done, and what came out."""
    cards: Sequence[Card] = ()
    comparison: Comparison | None = None
    examples: Sequence[Example] = ()
    classes: Sequence[ClassResult] = ()
    """In the order of the label space; also the gallery's legend."""
    curves: Sequence[Curve] = ()
    curves_title: str = "Training"
    curves_note: str = ""
    tables: Sequence[Table] = ()
    details: Mapping[str, str] = field(default_factory=dict)
    """How it was made: data, network, seed, versions."""
    footer: str = ""
