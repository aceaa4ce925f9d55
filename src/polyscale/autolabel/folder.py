"""The output folder: whose it is, how it says what made it, and what makes it an ordinary data set.

Unusual here: ``autolabel.json`` is written before the first label and holds the teacher's fingerprint and all settings,
so that a folder never holds labels of unknown origin. ``data.yaml`` points at the images where they are; nothing is
copied or linked.
"""

import contextlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from polyscale.autolabel.settings import FORMAT, digest
from polyscale.config import dump_yaml
from polyscale.errors import UserError
from polyscale.files import check_folder, check_name, inside, remove_leftovers, write_atomically
from polyscale.files import locked as lock_file
from polyscale.labels import LabelSpace

__all__ = [
    "DESCRIPTION",
    "JOURNAL",
    "KINDS",
    "Description",
    "claim",
    "clean",
    "describe",
    "forget_journals",
    "is_data_set_of",
    "label_file",
    "label_files",
    "locked",
    "read_description",
    "write_data_set",
    "write_names",
]

DESCRIPTION = "autolabel.json"
JOURNAL = ".journal"
KINDS = {
    "masks": "mask_bytes",
    "candidates": "candidates_bytes",
    "confidence": "confidence_bytes",
    "certain": "certain_bytes",
}
"""Folders of label files, each with its key in the manifest: labels; labels if every threshold were 0; levels of
confidence; and where the label is the coarse label's.
"""
_FILES = ("manifest.jsonl", "failures.jsonl", "images.txt", "data.yaml", "label_space.yaml", DESCRIPTION)


class Description(NamedTuple):
    """What ``autolabel.json`` says, and the label space."""

    teacher: str
    """Fingerprint of the teacher's file."""
    settings: dict[str, Any]
    thresholds: dict[str, float] | None
    """By class name; None while they are still to be chosen."""
    levels: tuple[float, ...]
    """Lower bounds of the stored confidence levels; empty without confidence maps."""
    stride: int | None
    """Pixels a side that a stored value covers, as ``stride_of`` reads it."""
    label_space: LabelSpace

    @property
    def kinds(self) -> tuple[str, ...]:
        """The folders that have a file of each image."""
        if not self.levels:
            return ("masks",)
        return tuple(KINDS)[: 4 if self.settings["coarse_labels"] is not None else 3]

    @property
    def digest(self) -> str:
        """Of all that decides a label: teacher, settings and format."""
        return digest([FORMAT, self.teacher, self.settings, self.label_space.digest])


def read_description(folder: str | Path) -> Description:
    """What made the labels in a folder.

    Raises:
        UserError: the folder was not written by auto-labelling.
    """
    folder = Path(folder)
    path = folder / DESCRIPTION
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise UserError(
                f"{path} is of format {values['format']}, this Polyscale reads {FORMAT}; label into another folder"
            )
        return Description(
            values["teacher"]["fingerprint"],
            values["settings"],
            values["thresholds"],
            tuple(values["confidence_levels"] or ()),
            values["confidence_stride"],
            LabelSpace.from_yaml(folder / "label_space.yaml"),
        )
    except FileNotFoundError:
        raise UserError(f"{folder} holds no auto-labels: {path} is missing; `polyscale autolabel` writes it") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} cannot be read ({error}); label again into another folder") from None


def describe(folder: Path, description: Description) -> None:
    """Write ``autolabel.json`` and the label space."""
    description.label_space.to_yaml(folder / "label_space.yaml")
    values = {
        "format": FORMAT,
        "teacher": {"fingerprint": description.teacher},
        "settings": description.settings,
        "thresholds": description.thresholds,
        "confidence_levels": list(description.levels) or None,
        "confidence_stride": description.stride,
    }
    with write_atomically(folder / DESCRIPTION) as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def claim(folder: Path, wanted: Description, replace: bool, foreign: bool = False) -> Description:
    """Make the folder ours: new, or with labels of the same teacher and settings.

    Args:
        folder: where to.
        wanted: what is to be labelled.
        replace: remove labels of another teacher or other settings, rather than refusing the folder.
        foreign: its thresholds were chosen from other images, which are to be replaced.

    Returns:
        The description that now holds: the folder's own, with thresholds that were chosen before.

    Raises:
        UserError: it holds something else, or cannot be written.
    """
    check_folder(folder)
    if (folder / DESCRIPTION).exists():
        try:
            present = read_description(folder)
        except UserError:
            if not replace:
                raise
        else:
            if present.digest == wanted.digest and not foreign:
                return present
            if not replace:
                raise UserError(
                    f"{folder} holds labels {_difference(present, wanted)}; choose another folder, or "
                    "replace them with --replace"
                )
        _empty(folder)
    elif folder.exists() and not _is_free(folder, wanted.label_space):
        raise UserError(f"{folder} holds files that auto-labelling did not write; choose a new or empty folder")
    describe(folder, wanted)
    return wanted


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder.

    Raises:
        UserError: another run is at work there, or the folder cannot be written or holds a link to elsewhere.
    """
    path = inside(folder, f"{JOURNAL}/lock")
    try:
        with lock_file(path, f"another run is labelling into {folder}; wait for it, or choose another folder"):
            yield
    finally:
        with contextlib.suppress(OSError):  # journals of an unfinished run stay
            path.parent.rmdir()


def forget_journals(folder: Path) -> None:
    """Remove the journals; the last step of a run."""
    for path in (folder / JOURNAL).glob("*.jsonl"):
        path.unlink()


def clean(folder: Path) -> None:
    """Remove what a run that was killed left half-written.

    Raises:
        UserError: a folder of label files is a symbolic link.
    """
    for kind in KINDS:
        inside(folder, kind)
    remove_leftovers(folder)
    if not any((folder / JOURNAL).glob("*.jsonl")):
        return
    for kind in KINDS:
        if (folder / kind).is_dir():
            remove_leftovers(folder / kind)
            for entry in (folder / kind).rglob("*"):
                if entry.is_dir() and not entry.is_symlink():
                    remove_leftovers(entry)


def label_file(folder: Path, kind: str, name: str) -> Path:
    """One of the files of an image; ``kind`` is one of ``KINDS``.

    Raises:
        UserError: the name leads out of the folder, or a symbolic link does.
    """
    return inside(folder, f"{kind}/{check_name(name)}.png")


def label_files(folder: Path, name: str, kinds: Iterable[str] = KINDS) -> Iterator[tuple[str, Path]]:
    """The files of one image, each with its key in the manifest.

    Raises:
        UserError: as ``label_file``.
    """
    for kind in kinds:
        yield KINDS[kind], label_file(folder, kind, name)


def write_data_set(folder: Path, template: str, names: Sequence[str]) -> None:
    """Write what lets ``open_data(folder)`` find the images: their template and the names that are labelled."""
    write_names(folder, names)
    _write_text(folder / "data.yaml", _data_yaml(template))


def write_names(folder: Path, names: Sequence[str]) -> None:
    """Write which images are labelled."""
    _write_text(folder / "images.txt", _listed(names))


def is_data_set_of(folder: Path, template: str, names: Sequence[str]) -> bool:
    """Whether the folder says what ``write_data_set`` would write."""
    try:
        return (folder / "images.txt").read_text(encoding="utf-8") == _listed(names) and (
            folder / "data.yaml"
        ).read_text(encoding="utf-8") == _data_yaml(template)
    except (OSError, UnicodeDecodeError):
        return False


def _listed(names: Sequence[str]) -> str:
    return "".join(f"{name}\n" for name in names)


def _data_yaml(template: str) -> str:
    values = {
        "kind": "folder",
        "root": ".",
        "image": template,
        "mask": "masks/{name}",
        "split_file": "images.txt",
    }
    return "# Images where they are, labels here: open_data reads this folder as it is.\n" + dump_yaml(values)


def _write_text(path: Path, text: str) -> None:
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _is_free(folder: Path, space: LabelSpace) -> bool:
    """Whether the folder is empty, or holds no more than this label space, which is written first."""
    names = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
    path = folder / "label_space.yaml"
    return not names or (names == {path.name} and LabelSpace.from_yaml(path).digest == space.digest)


def _difference(present: Description, wanted: Description) -> str:
    if present.teacher != wanted.teacher:
        return f"of another teacher (fingerprint {present.teacher[:12]}, not {wanted.teacher[:12]})"
    keys = sorted({*present.settings, *wanted.settings})
    changed = [
        f"{key} {json.dumps(present.settings.get(key))}, not {json.dumps(wanted.settings.get(key))}"
        for key in keys
        if present.settings.get(key) != wanted.settings.get(key)
    ]
    return f"of other settings ({'; '.join(changed) or 'another label space'})"


def _empty(folder: Path) -> None:
    """Remove labels; the description goes last, so that an interrupted removal is still recognised."""
    for kind in KINDS:
        if inside(folder, kind).is_dir():
            shutil.rmtree(folder / kind)
    forget_journals(folder)
    for file in _FILES:
        (folder / file).unlink(missing_ok=True)
