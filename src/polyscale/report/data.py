"""What a page shows, as plain values: a caller fills these in from the JSON of an evaluation and from pictures.

Every part but the title may be left out; the page then has no such section. Scores are fractions (0.642, not 64.2):
the page chooses how they are printed. A score that does not exist (a class that is nowhere in the data) is None.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from PIL import Image

__all__ = [
    "Card",
    "ClassResult",
    "Curve",
    "Example",
    "PageData",
    "Picture",
    "Strip",
    "Table",
]


@dataclass(frozen=True)
class Card:
    """One figure at the top of the page."""

    label: str
    value: str
    """The text as printed, unit included."""
    note: str = ""


@dataclass(frozen=True)
class ClassResult:
    """One class of the gallery's legend."""

    name: str
    color: tuple[int, int, int]


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
    """One image of the gallery with its maps."""

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
    examples: Sequence[Example] = ()
    classes: Sequence[ClassResult] = ()
    """In the order of the label space: the gallery's legend."""
    curves: Sequence[Curve] = ()
    curves_title: str = "Training"
    curves_note: str = ""
    tables: Sequence[Table] = ()
    details: Mapping[str, str] = field(default_factory=dict)
    """How it was made: data, network, seed, versions."""
    footer: str = ""
