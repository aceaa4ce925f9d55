"""Chooses images to hold out of a data set without a validation part."""

__all__ = ["held_out"]


def held_out(number: int, wanted: float) -> list[int]:
    """Indices of about ``wanted`` of ``number`` images: four blocks of neighbours.

    Single images would not do: the frames of a video resemble those beside them.

    Example:
        >>> held_out(20, 4)
        [2, 7, 12, 17]
    """
    block = max(1, round(wanted / 4))
    starts = [round((k + 0.5) * number / 4 - block / 2) for k in range(4)]
    return sorted({index for start in starts for index in range(max(0, start), min(number, start + block))})
