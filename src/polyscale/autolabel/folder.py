"""The output folder: what made it, who works in it, and what makes it an ordinary data set.

``autolabel.json`` is written before the first label. It names the teacher and all settings, so no folder holds labels
of unknown origin. ``data.yaml`` names the folder of the images, which stay where they are.
"""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError, field_validator

from polyscale.autolabel.settings import FORMAT, digest
from polyscale.config import dump_yaml
from polyscale.data.confidence import Fraction, MapFormat, first_problem
from polyscale.errors import UserError
from polyscale.files import check_folder, check_name, inside, remove_leftovers, write_atomically
from polyscale.files import locked as lock_file
from polyscale.labels import LabelSpace

__all__ = [
    "DESCRIPTION",
    "JOURNAL",
    "KINDS",
    "Description",
    "DescriptionFile",
    "TeacherDescription",
    "claim",
    "clean",
    "describe",
    "forget_journals",
    "journals",
    "label_file",
    "locked",
    "read_description",
    "remove_labels",
    "write_data_set",
    "write_names",
    "write_text",
]

DESCRIPTION = "autolabel.json"
JOURNAL = ".journal"
KINDS = {
    "masks": "mask_bytes",
    "candidates": "candidates_bytes",
    "confidence": "confidence_bytes",
    "certain": "certain_bytes",
}
"""Folders of label files, each with the key of its size in the manifest: the labels; the labels if every threshold were
0; levels of confidence; where the label is a coarse label.
"""
_FILES = ("manifest.jsonl", "failures.jsonl", "images.txt", "data.yaml", "label_space.yaml", DESCRIPTION)


class TeacherDescription(BaseModel):
    """The network that gave the labels."""

    fingerprint: str
    """SHA-256 of the checkpoint's file."""


class DescriptionFile(MapFormat):
    """The content of ``autolabel.json``."""

    format: int
    teacher: TeacherDescription
    thresholds: dict[str, Fraction] | None
    """Threshold by class name; None while they are still to be chosen."""

    @field_validator("format")
    @classmethod
    def _is_ours(cls, number: int) -> int:
        if number != FORMAT:
            raise ValueError(f"it is of format {number}, this Polyscale reads format {FORMAT}")
        return number


@dataclasses.dataclass(frozen=True)
class Description:
    """Teacher, settings and label space that made the labels of a folder."""

    file: DescriptionFile
    label_space: LabelSpace

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The folders that hold a file of each image."""
        return tuple(KINDS)[: (4 if self.file.has_given else 3) if self.file.levels else 1]

    @cached_property
    def digest(self) -> str:
        """Hash of all that decides a label: format, teacher, settings and label space."""
        return digest([FORMAT, self.file.teacher.fingerprint, self.file.settings, self.label_space.digest])

    def with_thresholds(
        self, thresholds: Mapping[str, float], settings: Mapping[str, Any] | None = None
    ) -> "Description":
        """This description with these thresholds, and with other settings if they are given."""
        changed = {"thresholds": dict(thresholds), "settings": dict(settings or self.file.settings)}
        return dataclasses.replace(self, file=self.file.model_copy(update=changed))


def read_description(folder: str | Path) -> Description:
    """Teacher, settings and label space that made the labels of a folder.

    Raises:
        UserError: auto-labelling did not write the folder, or in another format, or the description is damaged.
    """
    folder = Path(folder)
    path = folder / DESCRIPTION
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder}")
    try:
        file = DescriptionFile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{folder} holds no auto-labels: {path} is missing; `polyscale autolabel` writes it") from None
    except (OSError, ValidationError) as error:
        reason = first_problem(error) if isinstance(error, ValidationError) else error.strerror
        raise UserError(f"{path} cannot be read ({reason}); label into another folder") from None
    space = LabelSpace.from_yaml(folder / "label_space.yaml")
    if file.thresholds is not None and set(file.thresholds) != set(space.names):
        raise UserError(f"{path} has thresholds of other classes than label_space.yaml; label into another folder")
    return Description(file, space)


def describe(folder: Path, description: Description) -> None:
    """Write ``autolabel.json`` and the label space."""
    description.label_space.to_yaml(folder / "label_space.yaml")
    values = description.file.model_dump(mode="json")
    order = ("format", "teacher", "settings", "thresholds", "confidence_levels", "confidence_stride")
    write_text(folder / DESCRIPTION, json.dumps({key: values[key] for key in order}, indent=2) + "\n")


def claim(folder: Path, wanted: Description, replace: bool, foreign: bool = False) -> Description:
    """Take a folder: a new one, or one with labels of the same teacher and settings.

    Args:
        folder: the output folder.
        wanted: what is to be labelled.
        replace: remove labels of another teacher or other settings, rather than refusing the folder.
        foreign: the folder's thresholds were chosen from images that are to be removed; they are to be chosen again.

    Returns:
        The description that now holds. It is the folder's own, with the thresholds that were chosen before, where
        teacher and settings are the same.

    Raises:
        UserError: the folder holds something else, or cannot be written.
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


def journals(folder: Path) -> list[Path]:
    """The journals of a run that has not ended."""
    return sorted((folder / JOURNAL).glob("labels-*.jsonl"))


def forget_journals(folder: Path) -> None:
    """Remove the journals; the last step of a run."""
    for path in (folder / JOURNAL).glob("*.jsonl"):
        path.unlink()


def clean(folder: Path) -> None:
    """Remove what a run that was killed left half-written.

    Raises:
        UserError: a folder of label files is a symbolic link.
    """
    remove_leftovers(folder)
    for kind in KINDS:
        below = inside(folder, kind)
        if journals(folder) and below.is_dir():
            for entry in (below, *below.rglob("*")):
                if entry.is_dir() and not entry.is_symlink():
                    remove_leftovers(entry)


def label_file(folder: Path, kind: str, name: str) -> Path:
    """One of the files of an image; ``kind`` is one of ``KINDS``.

    Raises:
        UserError: the name leads out of the folder, or a symbolic link does.
    """
    return inside(folder, f"{kind}/{check_name(name)}.png")


def remove_labels(folder: Path, names: Iterable[str]) -> None:
    """Remove the label files of some images.

    Raises:
        UserError: as ``label_file``.
    """
    for name in names:
        for kind in KINDS:
            label_file(folder, kind, name).unlink(missing_ok=True)


def write_data_set(folder: Path, template: str, names: Sequence[str]) -> None:
    """Write what lets ``open_data(folder)`` find the images: their template and the names that are labelled."""
    write_names(folder, names)
    values = {"kind": "folder", "root": ".", "image": template, "mask": "masks/{name}", "split_file": "images.txt"}
    comment = "# Images where they are, labels here: open_data reads this folder as it is.\n"
    write_text(folder / "data.yaml", comment + dump_yaml(values))


def write_names(folder: Path, names: Sequence[str]) -> None:
    """Write which images are labelled."""
    write_text(folder / "images.txt", "".join(f"{name}\n" for name in names))


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8; it appears whole or not at all."""
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _is_free(folder: Path, space: LabelSpace) -> bool:
    """Whether the folder is empty, or holds no more than this label space, which is written first."""
    names = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
    path = folder / "label_space.yaml"
    return not names or (names == {path.name} and LabelSpace.from_yaml(path).digest == space.digest)


def _difference(present: Description, wanted: Description) -> str:
    before, after = present.file.settings, wanted.file.settings
    teachers = [description.file.teacher.fingerprint[:12] for description in (present, wanted)]
    if present.file.teacher != wanted.file.teacher:
        return f"of another teacher (fingerprint {teachers[0]!r}, not {teachers[1]!r})"
    changed = "; ".join(
        f"{key} {json.dumps(before.get(key))}, not {json.dumps(after.get(key))}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    )
    return f"of other settings ({changed[:300] or 'another label space'})"


def _empty(folder: Path) -> None:
    """Remove labels; the description goes last, so that an interrupted removal is still recognised."""
    for kind in KINDS:
        if inside(folder, kind).is_dir():
            shutil.rmtree(folder / kind)
    forget_journals(folder)
    for file in _FILES:
        (folder / file).unlink(missing_ok=True)
