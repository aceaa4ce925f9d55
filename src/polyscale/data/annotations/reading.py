"""What the readers of annotation files share: whole JSON files, and the folder where the images lie."""

import json
from pathlib import Path
from typing import Any

from polyscale.errors import UserError

__all__ = ["folder_of_images", "read_json", "title_of"]


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        raise UserError(f"{path} is no readable JSON file; export it again or remove it") from None


def folder_of_images(path: Path, name: str, given: Path | None) -> Path:
    """The folder of an annotation file's images: the one given, beside the file, or a folder that is usual for them.

    Args:
        path: of the annotation file.
        name: of one image.
        given: what the user says.
    """
    if given is not None:
        return given
    usual = (path.parent, path.parent / "images", path.parent.parent / "images", path.parent.parent)
    return next((folder for folder in usual if (folder / name).is_file()), path.parent)


def title_of(value: Any, message: str) -> str:
    """A class name without spaces around it.

    Raises:
        UserError: with the message, where there is no name.
    """
    if not isinstance(value, str) or not value.strip():
        raise UserError(message)
    return value.strip()
