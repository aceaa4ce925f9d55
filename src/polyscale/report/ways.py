"""Ways of combining scales as a page names and colours them."""

from collections.abc import Mapping, Sequence
from typing import Any

from polyscale.labels import LabelSpace
from polyscale.pictures import Color

__all__ = [
    "AVERAGE",
    "FUSED",
    "ORACLE",
    "SCALE_COLORS",
    "against",
    "label_space",
    "map_name",
    "mixed_scales",
    "scale_color",
    "scale_text",
    "short",
    "style",
    "title",
]

FUSED = "fused"
AVERAGE = "average of probabilities"
ORACLE = "oracle over scales"

METHODS = {
    "hierarchical": "Hierarchical attention",
    "explicit": "Explicit attention",
    "average": "Average pooling",
    "single": "One scale",
}

SCALE_COLORS: tuple[Color, ...] = (
    (230, 125, 0), (150, 105, 225), (0, 130, 205), (0, 150, 110), (205, 85, 150), (120, 95, 65),
)  # fmt: skip
"""Coarsest scale first; they differ in hue and in lightness."""


def title(row: str, metadata: Mapping[str, Any]) -> str:
    """A row's name as a page prints it: "scale 0.5" is "0.5x alone", "fused" the name of the network's method."""
    if row == FUSED:
        method = str(metadata.get("method", FUSED))
        return METHODS.get(method, method.capitalize())
    if row.startswith("scale "):
        return f"{row.removeprefix('scale ')}x alone"
    if row == ORACLE:
        return "Oracle over scales"
    return row[:1].upper() + row[1:]


def short(row: str) -> str:
    """A row's name in few letters."""
    if row.startswith("scale "):
        return f"{row.removeprefix('scale ')}x"
    return "average" if row == AVERAGE else row


def map_name(row: str) -> str:
    """Name of the map of a row's classes among the files of an image."""
    return "average" if row == AVERAGE else row.replace(" ", "-")


def against(row: str) -> str:
    """A row as that with which the network's own is compared."""
    return "averaging" if row == AVERAGE else f"{short(row)} alone"


def style(row: str, scales: Sequence[float]) -> str:
    """Name of the style that draws a row the same everywhere on the page."""
    if row.startswith("scale "):
        return f"s{sorted(scales).index(float(row.removeprefix('scale '))) % len(SCALE_COLORS)}"
    return {FUSED: "fused", AVERAGE: "average", ORACLE: "oracle"}.get(row, "other")


def mixed_scales(method: str, scales: Sequence[str], weighted: Sequence[str]) -> list[str]:
    """Scales that a page can weigh anew, none where it does not know the method's formula.

    Args:
        method: of combining scales.
        scales: all that were looked at.
        weighted: those whose weight the network chooses.
    """
    found = {"average": scales, "hierarchical": weighted}.get(method, ())
    return list(found) if len(found) > 1 else []


def scale_color(position: int) -> Color:
    """Colour of a scale by its place among the scales, the coarsest first."""
    return SCALE_COLORS[position % len(SCALE_COLORS)]


def scale_text(scale: float) -> str:
    """A scale as it is printed."""
    return f"{scale:g}x"


def label_space(about: Mapping[str, Any]) -> LabelSpace:
    """The classes that a recording names."""
    pairs = zip(about["classes"], about["colors"], strict=True)
    return LabelSpace.model_validate({"classes": [{"name": name, "color": color} for name, color in pairs]})
