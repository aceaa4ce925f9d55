"""The manifest, the failures and the journals: one line of JSON for each image.

Each process appends to a journal of its own, a line *after* the image's files are on disk. A kill can tear only the
last line. At the end one process joins manifest and journals, of which the later line counts, into a sorted manifest,
and removes the journals. So a finished folder does not show how often its run was killed.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from polyscale.autolabel.folder import JOURNAL, KINDS, journals, remove_labels, write_text
from polyscale.data.confidence import Fraction, first_problem
from polyscale.errors import UserError
from polyscale.files import check_name, inside, write_atomically

__all__ = [
    "ClassCounts",
    "Failure",
    "Journal",
    "Record",
    "Stamp",
    "file_digest",
    "latest_lines",
    "parse_line",
    "read_lines",
    "read_manifest",
    "settle",
    "stamp_of",
]

MANIFEST = "manifest.jsonl"
FAILURES = "failures.jsonl"

Count = Annotated[int, Field(ge=0, lt=2**53)]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Stamp(_Line):
    """A file's size, time of change and content when it was read."""

    bytes: Count
    modified: int
    """Nanoseconds since 1970."""
    sha256: str

    def fits(self, path: Path) -> bool:
        """Whether the file still has this content; it is read only where its time of change differs."""
        try:
            found = path.stat()
            if found.st_size != self.bytes:
                return False
            return found.st_mtime_ns == self.modified or file_digest(path) == self.sha256
        except OSError:
            return False


class ClassCounts(_Line):
    """Pixels of one class in one image."""

    share: Fraction
    """Fraction of the image's pixels that are labelled as this class."""
    confidence: Fraction | None
    """Mean confidence of the pixels that the teacher labelled; None without any."""
    labelled: Count
    predicted: Count
    """Pixels to which the teacher gives this class."""
    coarse: Count | None = None
    """Pixels of this class in the coarse label."""
    agreed: Count | None = None
    """Those of them to which the teacher gives this class too."""
    taught: Count | None = None
    """Labelled pixels whose label is the teacher's; left out where all are."""


class _OfImage(_Line):
    image: str
    """Name of the image: its path without suffix, relative to the folder of the images."""

    @field_validator("image", mode="before")
    @classmethod
    def _stays_inside(cls, name: object) -> str:
        return check_name(name)


class Record(_OfImage):
    """The line of an image that has labels."""

    file: str
    """Path of the image, relative to the folder of the images."""
    bytes: Count
    modified: int
    sha256: str
    height: Count
    width: Count
    coarse: Stamp | None = None
    """Stamp of the coarse label, where there is one."""
    teacher: str
    settings: str
    """Digest of all that decided the labels."""
    threshold: Fraction | dict[str, Fraction]
    kept: Fraction
    """Fraction of the image's pixels that have a label."""
    classes: dict[str, ClassCounts]
    mask_bytes: Count
    candidates_bytes: Count | None = None
    confidence_bytes: Count | None = None
    certain_bytes: Count | None = None

    @property
    def stamp(self) -> Stamp:
        """Of the image."""
        return Stamp(bytes=self.bytes, modified=self.modified, sha256=self.sha256)

    def holds(self, folder: Path, digest: str, kinds: Collection[str]) -> bool:
        """Whether the image's label files are those of this line, by these settings; images are not looked at."""
        if self.settings != digest:
            return False
        try:
            # Plain text rather than Path: this is asked for every image at each start.
            return all(
                os.stat(f"{folder}/{kind}/{self.image}.png").st_size == getattr(self, KINDS[kind])  # noqa: PTH116
                for kind in kinds
            )
        except OSError:
            return False


class Failure(_OfImage):
    """The line of an image that was skipped."""

    error: str


def stamp_of(path: Path) -> Stamp:
    """Read a file's stamp."""
    found = path.stat()
    return Stamp(bytes=found.st_size, modified=found.st_mtime_ns, sha256=file_digest(path))


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


class Journal:
    """Records of the images that one process has finished; a line is written as soon as its image's files are there.

    Args:
        folder: the output folder.
        rank: of the process.
        report: called with one line of text for each image that is skipped.

    Attributes:
        path: of the file.
        failures: the skipped images, and why.

    Raises:
        UserError: it cannot be written.
    """

    def __init__(self, folder: Path, rank: int, report: Callable[[str], None] | None = None) -> None:
        self.failures: dict[str, str] = {}
        self._folder, self._report = folder, report
        self.path = inside(folder, f"{JOURNAL}/labels-{rank:05d}.jsonl")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b")
            self._file.seek(0)
            self._file.truncate(self._file.read().rfind(b"\n") + 1)  # a line that a kill tore
        except OSError as error:
            raise self._cannot_write(error) from None

    def write(self, line: Record | Failure) -> None:
        """Append one line; an image that is skipped loses the label files that it had.

        Raises:
            UserError: the disk is full.
        """
        if isinstance(line, Failure):
            remove_labels(self._folder, [line.image])
            self.failures[line.image] = line.error
            if self._report is not None:
                self._report(f"skipped: {line.error if line.image in line.error else f'{line.image}: {line.error}'}")
        text = json.dumps(line.model_dump(exclude_unset=True), ensure_ascii=False)
        try:
            self._file.write(text.encode(errors="replace") + b"\n")
            self._file.flush()
        except OSError as error:
            raise self._cannot_write(error) from None

    def close(self) -> None:
        """Call this when no more lines follow."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _cannot_write(self, error: OSError) -> UserError:
        reason = error.strerror or error
        return UserError(f"cannot write {self.path}: {reason}; free some space and run the same command again")


def read_manifest(folder: str | Path) -> Iterator[dict[str, Any]]:
    """The lines of a folder's manifest, sorted by image.

    Raises:
        UserError: there is none: auto-labelling did not write the folder, or has not ended. Or a line is damaged.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise UserError(f"no manifest at {path}; `polyscale autolabel` writes it when it ends")
    for _, line in _lines_of(path):
        yield line.model_dump(exclude_unset=True)


def read_lines(folder: Path) -> Iterator[tuple[bytes, Record | Failure]]:
    """All lines of a folder, as they are on disk and as they read; of the lines of one image the last counts.

    Raises:
        UserError: a line is damaged.
    """
    for path in (folder / FAILURES, folder / MANIFEST, *journals(folder)):
        if path.is_file():
            yield from _lines_of(path)


def latest_lines(folder: Path) -> dict[str, tuple[bytes, bool]]:
    """For each image the line that counts, and whether it is a failure."""
    return {line.image: (raw, isinstance(line, Failure)) for raw, line in read_lines(folder)}


def settle(folder: Path, visit: Callable[[Record | Failure], None], names: Collection[str] | None = None) -> list[str]:
    """Join all lines into a sorted manifest and a sorted list of failures. The journals stay.

    Args:
        folder: the output folder.
        visit: called with each line that is kept.
        names: images whose lines are kept; None for all.

    Returns:
        The images in the manifest.
    """
    lines = latest_lines(folder)
    labelled, failures = [], []
    with write_atomically(folder / MANIFEST) as temporary, temporary.open("wb") as manifest:
        for name in sorted(lines if names is None else lines.keys() & set(names)):
            raw, failed = lines[name]
            if failed:
                failures.append(raw)
            else:
                labelled.append(name)
                manifest.write(raw)
            visit(parse_line(raw))
    if failures:
        write_text(folder / FAILURES, b"".join(failures).decode())
    else:
        (folder / FAILURES).unlink(missing_ok=True)
    return labelled


def parse_line(raw: bytes) -> Record | Failure:
    """Read one line.

    Raises:
        ValidationError: it is damaged.
    """
    try:
        return Record.model_validate_json(raw)
    except ValidationError:
        if b'"error"' not in raw:
            raise
        return Failure.model_validate_json(raw)


def _lines_of(path: Path) -> Iterator[tuple[bytes, Record | Failure]]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if not raw.endswith(b"\n"):
                if path.parent.name == JOURNAL:
                    return  # a kill tore it
                raw += b"\n"
            try:
                line = parse_line(raw)
            except ValidationError as error:
                problem = first_problem(error).partition("; ")[0]
                raise UserError(
                    f"{path} line {number}: {problem}; remove the line, and its image is labelled again"
                ) from None
            yield raw, line
