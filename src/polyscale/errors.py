"""The one error type that users see, and the hint that a misspelt name gets."""

import difflib
from collections.abc import Iterable

__all__ = ["UserError", "nearest", "unknown"]


class UserError(ValueError):
    """Something that the user can change: one line that names the thing, what is allowed and what to do."""


def nearest(name: str, known: Iterable[str], most: int = 1) -> str:
    """`` (did you mean 'schedule'?)`` where one of ``known`` resembles ``name``, else nothing.

    Args:
        name: what was given.
        known: what is possible.
        most: names to propose.

    Example:
        >>> nearest("schedul", ["schedule", "optimizer"])
        " (did you mean 'schedule'?)"
    """
    by_case = {other.lower(): other for other in known if other != name}
    close = difflib.get_close_matches(name[:100].lower(), by_case, n=most)
    return f" (did you mean {' or '.join(repr(by_case[other]) for other in close)}?)" if close else ""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The text of an error about a name that is none of a few known ones.

    Example:
        >>> unknown("decoder", "oct", ["light", "ocr"])
        "unknown decoder 'oct' (did you mean 'ocr'?); choose from light, ocr"
    """
    names = list(known)
    return f"unknown {what} {name[:100]!r}{nearest(name, names)}; choose from {', '.join(names)}"
