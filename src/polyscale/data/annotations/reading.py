"""Common parts of the readers of annotation files: whole JSON files, and the folder where the images lie."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from polyscale.errors import UserError, nearest

__all__ = ["chosen_classes", "classes_among", "folder_of_images", "read_json", "title_of"]

_LARGEST = 1 << 28
"""Bytes of a file that is read whole; that takes about ten times as much memory."""


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: it cannot be read, is no JSON file, or is too large to be held in memory.
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise UserError(f"{path} is no regular file; replace or remove it")
    try:
        if (size := path.stat().st_size) > _LARGEST:
            raise UserError(f"{path} has {size / 1e6:,.0f} MB, more than can be read at once; export it in parts")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; check the file and its permissions") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no readable JSON file: it is not UTF-8 text; export it again") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"{path} is no readable JSON file: {reason}; export it again or remove it") from None


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


def chosen_classes(classes: Sequence[str], titles: Sequence[str], where: str, used: Collection[str] = ()) -> list[str]:
    """The classes that are drawn: those the user names, or else all that there are.

    Args:
        classes: named by the user.
        titles: those that the file declares.
        where: the file, for messages.
        used: those of its regions, which must be among the declared ones.

    Raises:
        UserError: a class or the class of a region is none of the declared ones, or two have one name.
    """
    listed = ", ".join(titles[:20])
    unknown = [title for title in classes if title not in titles]
    if unknown:
        raise UserError(f"{where} has no class {unknown[0]!r}{nearest(unknown[0], titles)}; its classes are {listed}")
    doubled = [title for title in titles if titles.count(title) > 1]
    if doubled and not classes:
        raise UserError(f"{where} has two classes named {doubled[0]!r}; rename one")
    strange = sorted(set(used) - set(titles))
    if strange:
        raise UserError(
            f"{where} has regions of class {strange[0]!r}, which it does not declare ({listed}); add it there"
        )
    return list(classes or titles)


def classes_among(titles: Collection[str], classes: Sequence[str], where: str) -> list[str]:
    """The classes that are drawn of a form that declares none: those the user names, or else all that are used.

    Raises:
        UserError: none of those that the user names is used.
    """
    if classes and not set(titles).intersection(classes):
        raise UserError(f"{where} has none of the classes {', '.join(classes)}; it has {', '.join(sorted(titles))}")
    return list(classes) or sorted(titles)
