"""Which scales may be asked for, and the sizes that they give.

Sizes are whole-number arithmetic, so they stay right at odd sizes and in a traced graph. Torch is not imported: a
command checks what it is given before anything heavy is loaded.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

__all__ = ["LARGEST_SCALE", "check_scales", "scaled_size"]

LARGEST_SCALE = 16
"""A typing error beyond it would ask for more memory than any machine has."""


def check_scales(scales: Sequence[float]) -> tuple[float, ...]:
    """Finest first, once each.

    Raises:
        ValueError: a scale is not positive or above ``LARGEST_SCALE``, or 1 is not among them (its size is the result's
            size).
    """
    ordered = tuple(sorted({float(scale) for scale in scales}, reverse=True))
    if not ordered or not all(0 < scale < math.inf for scale in ordered):
        raise ValueError(f"scales must be positive numbers, got {list(scales)}; for example 0.5,1,2")
    if ordered[0] > LARGEST_SCALE:
        raise ValueError(f"scales must be at most {LARGEST_SCALE}, got {list(scales)}; for example 0.5,1,2")
    if 1.0 not in ordered:
        raise ValueError(f"scales must contain 1, whose size is the result's; got {list(scales)}, for example 0.5,1,2")
    return ordered


def scaled_size(size: Sequence[int], scale: float) -> tuple[int, int]:
    """floor(side * scale) for each side, at least 1; exact also where float products are not, such as 100 * 0.29."""
    factor = Fraction(str(scale))
    height, width = (side * factor.numerator // factor.denominator for side in size)
    return (height if height > 1 else 1), (width if width > 1 else 1)
