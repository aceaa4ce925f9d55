"""Class colours that stay apart for people who see fewer colours, each as near to the data set's own as that allows.

Difference is CIELAB's (CIE 1976); what people without one kind of cone see is simulated after Machado, Oliveira and
Fernandes, 2009 (their matrices of full severity, applied to linear RGB).
"""

from functools import lru_cache
from typing import Any

import numpy as np

from polyscale.pictures import Color

__all__ = ["LEAST_DIFFERENCE", "distinct_colors"]

Array = np.ndarray[Any, np.dtype[np.float64]]

LEAST_DIFFERENCE = 20.0
"""Between any two classes, in common sight and in each of three kinds of colour blindness."""

TRIES = (28.0, 24.0, LEAST_DIFFERENCE)

NUM_ORDERS = 12

SIGHTS = np.array(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
)
"""Common sight, protanopia, deuteranopia, tritanopia."""

TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])

# Found by a search for many colours of a grid that are 20 apart in all four sights; taken where a data set has so many
# classes that its own colours lead nowhere.
SPARE: tuple[Color, ...] = (
    (125, 200, 250), (75, 0, 25), (250, 225, 250), (50, 25, 75), (200, 250, 175), (100, 250, 25), (0, 0, 150),
    (75, 0, 250), (125, 0, 0), (175, 75, 250), (150, 0, 150), (0, 75, 75), (225, 175, 175), (150, 125, 225),
    (250, 75, 175), (175, 200, 100), (100, 100, 75), (175, 125, 75), (200, 0, 0), (225, 125, 0),
)  # fmt: skip


def distinct_colors(own: tuple[Color, ...]) -> tuple[Color, ...]:
    """A colour for each class, any two ``LEAST_DIFFERENCE`` apart in all four sights.

    Args:
        own: the data set's colours.

    Returns:
        As many colours. Beyond 20 classes there are no such colours: the data set's own.
    """
    if len(own) > len(SPARE):
        return own
    wanted, (colors, seen) = _lab(np.array(own, dtype=np.float64), SIGHTS[0]), _candidates()
    away = np.linalg.norm(seen[0][None] - wanted[:, None], axis=2)
    rng = np.random.default_rng(0)
    orders = [np.arange(len(own)), *(rng.permutation(len(own)) for _ in range(NUM_ORDERS - 1))]
    for least in TRIES:
        found = [chosen for order in orders if (chosen := _greedy(away, seen, order, least)) is not None]
        if found:
            best = min(found, key=lambda chosen: float((away[np.arange(len(own)), chosen] ** 2).sum()))
            return tuple(tuple(color) for color in colors[best].tolist())
    return _assigned(wanted)


def _greedy(away: Array, seen: Array, order: Any, least: float) -> Any:
    """Candidates for the classes, each the nearest that is ``least`` apart from those before; None at a dead end."""
    allowed = np.ones(seen.shape[1], dtype=bool)
    chosen = np.zeros(len(away), dtype=np.int64)
    for position in order:
        if not allowed.any():
            return None
        best = int(np.where(allowed, away[position], np.inf).argmin())
        chosen[position] = best
        allowed &= (np.linalg.norm(seen - seen[:, best : best + 1], axis=2) >= least).all(0)
    return chosen


def _assigned(wanted: Array) -> tuple[Color, ...]:
    """A spare colour for each class, swapped for as long as that brings them nearer to those wanted."""
    spare = _lab(np.array(SPARE, dtype=np.float64), SIGHTS[0])
    away = np.linalg.norm(spare[None] - wanted[:, None], axis=2)
    place = list(range(len(SPARE)))
    swapped = True
    while swapped:
        swapped = False
        for a in range(len(wanted)):
            for b in range(a + 1, len(place)):
                now = away[a, place[a]] + (away[b, place[b]] if b < len(wanted) else 0)
                then = away[a, place[b]] + (away[b, place[a]] if b < len(wanted) else 0)
                if then < now - 1e-9:
                    place[a], place[b], swapped = place[b], place[a], True
    return tuple(SPARE[place[k]] for k in range(len(wanted)))


@lru_cache(maxsize=1)
def _candidates() -> tuple[Any, Array]:
    """A grid of colours that are neither black nor white, and their CIELAB values in each sight, (4, N, 3)."""
    steps = np.arange(0, 256, 17)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    seen = np.stack([_lab(grid.astype(np.float64), sight) for sight in SIGHTS])
    usable = (seen[0][:, 0] > 12) & (seen[0][:, 0] < 95)
    return grid[usable], seen[:, usable]


def _lab(colors: Array, sight: Array) -> Array:
    """8-bit sRGB (N, 3) as CIELAB (N, 3), as it looks to that sight."""
    value = colors / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ sight.T, 0, 1) @ TO_XYZ.T / WHITE
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
    return np.asarray(lab)
