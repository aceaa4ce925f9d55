"""Label spaces of public data sets that come with the package, as YAML files that may be copied and changed."""

from functools import lru_cache
from pathlib import Path

from polyscale.errors import UserError, unknown
from polyscale.labels import LabelSpace

__all__ = ["known_space", "known_spaces"]

_FOLDER = Path(__file__).parent / "spaces"


def known_spaces() -> tuple[str, ...]:
    """Their names."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


@lru_cache(maxsize=32)
def known_space(name: str) -> LabelSpace:
    """The label space of that name.

    Example:
        >>> known_space("cityscapes").names[:3]
        ('road', 'sidewalk', 'building')

    Raises:
        UserError: there is none of that name.
    """
    if name not in known_spaces():
        raise UserError(f"{unknown('label space', name, known_spaces())}, or name a YAML file")
    return LabelSpace.from_yaml(_FOLDER / f"{name}.yaml")
