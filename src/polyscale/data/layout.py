"""Finding a data set's files: folders, file-name templates and split files become a sorted list of items.

Every layout is a pair of *templates* such as ``masks/{split}/{name}``. ``{name}`` may span folders, so nested folders
stay part of an item's name; ``{folder}`` stands for folders in the middle of a path and begins the name; a template
without a suffix takes any image or mask suffix. Masks are
listed, not asked for one by one: that is quick on network drives, and what is left over are the masks without an image.
"""

import os
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from polyscale.data.images import IMAGE_SUFFIXES
from polyscale.data.items import DataError, Item
from polyscale.data.masks import MASK_SUFFIXES
from polyscale.errors import UserError
from polyscale.files import check_name, walk_files

__all__ = [
    "Found",
    "first_three",
    "keep",
    "list_items",
    "list_template",
    "merge_splits",
    "pair",
    "read_split_file",
    "stands_in_list",
    "template_parts",
]


class Found(NamedTuple):
    """Items of one split, sorted by name, and the masks that belong to no image."""

    items: tuple[Item, ...]
    orphans: tuple[Path, ...]


def list_items(root: Path, image: str, mask: str | None, split: str | None, split_file: Path | None = None) -> Found:
    """Items whose files fit a pair of templates (without ``mask``: no masks), or those that a split file lists.

    Raises:
        UserError: a folder is missing or has no images, two files claim one name, or a listed image does not exist.
    """
    clashes: dict[str, str] | None = None if split_file is None else {}
    images = list_template(root, image, split, IMAGE_SUFFIXES, "image", clashes)
    masks = list_template(root, mask, split, MASK_SUFFIXES, "mask", clashes) if mask is not None else {}
    if split_file is None:
        return pair(images, masks)
    found = read_split_file(split_file, root, images, masks)
    for item in found.items:
        if clashes and item.name in clashes:
            raise UserError(clashes[item.name])
    return found


def pair(images: Mapping[str, Path], masks: Mapping[str, Path]) -> Found:
    """Join images and masks of the same name."""
    items = tuple(Item(name, images[name], masks.get(name)) for name in sorted(images))
    return Found(items, tuple(masks[name] for name in sorted(set(masks) - set(images))))


def list_template(
    root: Path,
    template: str,
    split: str | None,
    suffixes: Sequence[str],
    what: str,
    clashes: dict[str, str] | None = None,
) -> dict[str, Path]:
    """All files that fit a template, by ``{name}``.

    Where ``clashes`` is given, names that two files have are noted there with a message, and not refused.

    Raises:
        UserError: the template lacks ``{name}``, its folder does not exist, a file's name holds a line break, or
            two files have one name.
    """
    base, pattern = template_parts(root, template, split, what)
    if not base.is_dir():
        raise UserError(f"there is no folder {base} for the {what}s{_alternatives(base)}")
    tail = pattern[pattern.rindex("}") + 1 :].lower()
    endings = (tail,) if Path(pattern).suffix.lower() in suffixes else tuple(tail + suffix for suffix in suffixes)
    fits = re.compile(_expression(pattern) + ("" if tail in endings else f"(?i:{'|'.join(map(re.escape, suffixes))})"))
    found: dict[str, str] = {}  # text: a path each would take most of the time of a large folder
    for relative in walk_files(base, endings):
        if not relative.isprintable():
            check_name(relative, absolute=True)
        if (match := fits.fullmatch(relative)) is not None:
            parts = match.groupdict()
            name = f"{parts['folder']}/{parts['name']}" if "folder" in parts else parts["name"]
            other = found.setdefault(name, relative)
            if other != relative:
                message = f"two {what}s have the name {name!r}: {base / other} and {base / relative}; rename one"
                if clashes is None:
                    raise UserError(message)
                clashes[name] = message
    return {name: base / relative for name, relative in found.items()}


def _expression(pattern: str) -> str:
    """A regular expression for the paths that fit a template; a placeholder that comes again means the same again."""
    expression, seen = "", set()
    for part in re.split(r"(\{name\}|\{folder\})", pattern):
        if part not in ("{name}", "{folder}"):
            expression += re.escape(part)
            continue
        key = part[1:-1]
        expression += f"(?P={key})" if key in seen else f"(?P<{key}>.+)"
        seen.add(key)
    return expression


def template_parts(root: Path, template: str, split: str | None, what: str) -> tuple[Path, str]:
    """The folder that a template's files all lie in, and the rest of the template.

    Raises:
        UserError: the template lacks ``{name}``, has ``{split}`` where no split is given, or climbs out of the root.
    """
    if "{name}" not in template:
        raise UserError(
            f"the {what} template {template!r} has no {{name}}; write for example {what}s/{{split}}/{{name}}"
        )
    if "{split}" in template:
        if split is None:
            raise UserError(f"the {what} template {template!r} has {{split}}, but no split is given; set split")
        template = template.replace("{split}", split)
    check_name(template, absolute=True)
    start = min(template.index(key) for key in ("{name}", "{folder}") if key in template)
    folder, _, pattern = template[:start].rpartition("/")
    return root / folder, pattern + template[start:]


def read_split_file(path: Path, root: Path, images: Mapping[str, Path], masks: Mapping[str, Path]) -> Found:
    """The items that a text file lists, one a line.

    A line is a name, or an image path and optionally a mask path; ``#`` starts a comment. Paths are absolute or
    relative to ``root``, fields are parted by a tab, a comma or spaces. A line that is as a whole the name or the path
    of an image may contain any of them. Masks that the file does not use are not called left over: they belong to other
    splits.

    Raises:
        UserError: the file is missing, empty or not text, a line names nothing that exists or a file that
            ``check_name`` refuses, or an image is listed twice.
    """
    lines = _read_lines(path)
    names = {image: name for name, image in images.items()}
    items: dict[str, Item] = {}
    lost: list[str] = []
    for number, line in enumerate(lines, start=1):
        text = _without_comment(line)
        if not text:
            continue
        try:
            for part in filter(None, text.split("\t")):
                check_name(part, absolute=True)
            item = _item_of(text, None, root, images, masks, names)
            for separator in () if item is not None else (r"\s*[\t,]\s*", r"\s+"):
                fields = re.split(separator, text)
                if item is None and len(fields) == 2:
                    item = _item_of(fields[0], fields[1], root, images, masks, names)
        except UserError as error:
            raise UserError(f"{path} line {number}: {error}") from None
        if item is None:
            lost.append(text)
        elif item.name in items:
            raise UserError(f"{path} lists {item.name!r} twice; remove one of the lines")
        else:
            items[item.name] = item
    if lost:
        raise DataError(
            f"{path} lists what does not exist ({len(lost)} of {len(lost) + len(items)} images): {first_three(lost)}; "
            "a line is a name without suffix, or the path of an image relative to the root",
            "missing",
        )
    return Found(tuple(items[name] for name in sorted(items)), ())


def stands_in_list(name: str) -> bool:
    """Whether a split file that has this name in a line is read back as just that."""
    return name.splitlines() == [name] and _without_comment(name) == name


def keep(found: Found, include: Sequence[str], exclude: Sequence[str], where: str, num_splits: int = 1) -> Found:
    """Items whose name fits a pattern of ``include`` (all, if there is none) and none of ``exclude``.

    In patterns ``*`` also spans folders. They are about names within a split: the split that names begin with where
    there are several may be left out.

    Raises:
        UserError: a pattern fits no item: a misspelt pattern would quietly train on what was meant to be held out.
    """

    def fits(item: Item, pattern: str) -> bool:
        within = item.name.partition("/")[2] if num_splits > 1 else item.name
        return fnmatchcase(within, pattern) or fnmatchcase(item.name, pattern)

    for key, patterns in (("include", include), ("exclude", exclude)):
        for pattern in patterns:
            if not any(fits(item, pattern) for item in found.items):
                names = ", ".join(item.name for item in found.items[:2])
                raise UserError(f"{key} pattern {pattern!r} fits no image of {where}; names there are like {names}")
    items = tuple(
        item
        for item in found.items
        if (not include or any(fits(item, pattern) for pattern in include))
        and not any(fits(item, pattern) for pattern in exclude)
    )
    if not items:
        raise UserError(f"include and exclude leave no image of {where}")
    # A mask without image is reported by its path; patterns are about names, so with patterns nothing is said about
    # them.
    return Found(items, () if include or exclude else found.orphans)


def merge_splits(parts: Mapping[str | None, Found]) -> Found:
    """Join splits; with more than one, names begin with the split so that they stay unique."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    items = [item._replace(name=f"{split}/{item.name}") for split, found in parts.items() for item in found.items]
    return Found(
        tuple(sorted(items, key=lambda item: item.name)),
        tuple(sorted({orphan for found in parts.values() for orphan in found.orphans})),
    )


def first_three(names: Sequence[object]) -> str:
    """Up to three names and how many more there are, for messages."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(str(name) for name in names[:3]) + more


def _read_lines(path: Path) -> list[str]:
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise UserError(f"cannot read the split file {path}: it is no regular file; replace or remove it")
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(f"no such split file: {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"cannot read the split file {path}: {reason}; replace it or change its permissions") from None


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s)#.*", "", line).strip()


def _item_of(
    image: str,
    mask: str | None,
    root: Path,
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
    names: Mapping[Path, str],
) -> Item | None:
    """The item that a line of a split file means, or None where nothing of that name exists."""
    name = next((n for n in (image, os.path.splitext(image)[0]) if n in images), None)  # noqa: PTH122 - keep as text
    path = images[name] if name is not None else root / image
    if name is None:
        if path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file():
            return None
        check_name(image, absolute=True)
        name = (
            names.get(path)
            or path.with_suffix("").relative_to(root if path.is_relative_to(root) else path.anchor).as_posix()
        )
    if mask is None:
        return Item(name, path, masks.get(name))
    candidate = root / mask
    check_name(mask, absolute=True)
    return Item(name, path, candidate) if candidate.is_file() else None


def _alternatives(base: Path) -> str:
    """Folders beside a folder that does not exist, to end an error message with."""
    parent = base.parent
    if not parent.is_dir():
        return f"; {parent} does not exist either"
    names = sorted(entry.name for entry in parent.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return f"; {parent} has the folders {first_three(names)}" if names else f"; {parent} has no folders"
