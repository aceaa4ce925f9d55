"""The manifest, and the journals from which it is made: one line of JSON an image.

Unusual here: each process appends to a journal of its own, a line *after* the image's files are in place; a line that a
kill tore is passed over, and its image is labelled again to the same bytes. At the end one process merges journals and
manifest into a sorted manifest and removes the journals, so that the folder shows nothing of how often it was
interrupted. Lines stay on disk: in memory each image costs a few hundred bytes, which matters for millions.
"""

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from polyscale.autolabel.folder import JOURNAL, KINDS
from polyscale.errors import UserError
from polyscale.files import check_name, inside, write_atomically

__all__ = ["Entry", "Journal", "Ledger", "Stamp", "file_digest", "read_journals", "read_manifest", "stamp_of"]

MANIFEST = "manifest.jsonl"
FAILURES = "failures.jsonl"


class Stamp(NamedTuple):
    """What a file was when it was read."""

    bytes: int
    modified: int
    """Nanoseconds since 1970."""
    sha256: str

    def fits(self, path: Path) -> bool:
        """Whether the file still has this content; it is read only where its time of change is another."""
        try:
            found = path.stat()
            if found.st_size != self.bytes:
                return False
            return found.st_mtime_ns == self.modified or file_digest(path) == self.sha256
        except OSError:
            return False


def stamp_of(path: Path) -> Stamp:
    """Read a file's stamp."""
    found = path.stat()
    return Stamp(found.st_size, found.st_mtime_ns, file_digest(path))


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


class Entry(NamedTuple):
    """One finished image: what tells whether it still holds, and where its line is."""

    digest: str
    image: Stamp
    coarse: Stamp | None
    sizes: tuple[int, ...]
    """Of its label files, in bytes."""
    file: int
    offset: int

    def holds(
        self, folder: Path, name: str, image: Path, coarse: Path | None, digest: str, kinds: Sequence[str]
    ) -> bool:
        """Whether the image is done: same teacher, settings and images, and files of the sizes that were written."""
        if self.digest != digest or (self.coarse is None) != (coarse is None):
            return False
        if len(kinds) != len(self.sizes):
            return False
        try:
            # Plain text and not Path: this is done for every image of a set at each start.
            for kind, size in zip(kinds, self.sizes, strict=True):
                if os.stat(f"{folder}/{kind}/{name}.png").st_size != size:  # noqa: PTH116
                    return False
        except OSError:
            return False
        return self.image.fits(image) and (self.coarse is None or coarse is None or self.coarse.fits(coarse))


class Ledger:
    """All finished images of a folder, by name, from its manifest and journals; later lines count.

    Attributes:
        entries: finished images.
        failures: images that were skipped, and why.
        settled: the last run ended, so that the manifest alone counts.

    Args:
        folder: the output folder.
        visit: called with each line where the folder is settled.
    """

    def __init__(self, folder: Path, visit: Callable[[dict[str, Any]], None] | None = None) -> None:
        journals = sorted((folder / JOURNAL).glob("labels-*.jsonl")) if (folder / JOURNAL).is_dir() else []
        self.settled = not journals
        self._files = [path for path in (folder / FAILURES, folder / MANIFEST, *journals) if path.is_file()]
        self.entries: dict[str, Entry] = {}
        self.failures: dict[str, str] = {}
        for number, path in enumerate(self._files):
            for offset, values in _lines(path):
                self._take(number, offset, values)
                if self.settled and visit is not None and "error" not in values:
                    visit(values)

    def _take(self, file: int, offset: int, values: dict[str, Any]) -> None:
        name = values["image"]
        if "error" in values:
            self.failures[name] = values["error"]
            self.entries.pop(name, None)
            return
        self.failures.pop(name, None)
        coarse = values.get("coarse")
        sizes = tuple(values[key] for key in KINDS.values() if key in values)
        image = Stamp(values["bytes"], values["modified"], values["sha256"])
        stamp = Stamp(coarse["bytes"], coarse["modified"], coarse["sha256"]) if coarse else None
        self.entries[name] = Entry(values["settings"], image, stamp, sizes, file, offset)

    def lines(self, names: Iterable[str]) -> Iterator[bytes]:
        """The lines of these images, as they are on disk."""
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(path.open("rb")) for path in self._files]
            for name in names:
                entry = self.entries[name]
                files[entry.file].seek(entry.offset)
                yield files[entry.file].readline()

    def settle(self, folder: Path, names: Collection[str], visit: Callable[[dict[str, Any]], None]) -> list[str]:
        """Write the manifest of these images (those that are done) and the list of failures.

        Args:
            folder: whose ledger this is.
            names: all images of the run.
            visit: called with each line of the manifest.

        Returns:
            The names in the manifest, sorted.
        """
        done = sorted(name for name in names if name in self.entries)
        with write_atomically(folder / MANIFEST) as temporary, temporary.open("wb") as file:
            for line in self.lines(done):
                file.write(line)
                visit(json.loads(line))
        failed = sorted(name for name in names if name in self.failures)
        if failed:
            with write_atomically(folder / FAILURES) as temporary:
                texts = [json.dumps({"image": name, "error": self.failures[name]}) for name in failed]
                temporary.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        else:
            (folder / FAILURES).unlink(missing_ok=True)
        return done


class Journal:
    """One process's list of what it finished; a line is written as soon as its image is.

    Args:
        folder: the output folder.
        rank: of the process.
        kind: "labels", or "histograms" for the first pass where thresholds are chosen.
    """

    def __init__(self, folder: Path, rank: int, kind: str = "labels") -> None:
        self.path = inside(folder, f"{JOURNAL}/{kind}-{rank:05d}.jsonl")
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab")
            if self._file.tell():
                with self.path.open("rb") as file:
                    file.seek(-1, 2)
                    if file.read() != b"\n":
                        self._file.write(b"\n")  # a kill tore the last line; it is passed over when read
        except OSError as error:
            raise _cannot_write(self.path, error) from None

    def write(self, values: dict[str, Any]) -> None:
        """Append one line.

        Raises:
            UserError: the disk is full.
        """
        line = json.dumps(values, ensure_ascii=False).encode() + b"\n"
        with self._lock:
            try:
                self._file.write(line)
                self._file.flush()
            except OSError as error:
                raise _cannot_write(self.path, error) from None

    def close(self) -> None:
        """No more lines follow."""
        with contextlib.suppress(OSError):
            self._file.close()


def read_manifest(folder: str | Path) -> Iterator[dict[str, Any]]:
    """The lines of a folder's manifest, sorted by image.

    Raises:
        UserError: there is none: the folder was not written by auto-labelling, or its run has not ended.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise UserError(f"no manifest at {path}; `polyscale autolabel` writes it when it ends")
    for _, values in _lines(path):
        yield values


def read_journals(folder: Path, kind: str) -> Iterator[dict[str, Any]]:
    """The lines of all journals of a kind."""
    for path in sorted((folder / JOURNAL).glob(f"{kind}-*.jsonl")):
        for _, values in _lines(path):
            yield values


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Offset and content of each whole line.

    Raises:
        UserError: a line names an image whose label files would not be in the folder.
    """
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n"):
                try:
                    values = json.loads(line)
                except ValueError:
                    values = None
                if isinstance(values, dict):
                    try:
                        check_name(values.get("image"))
                    except UserError as error:
                        raise UserError(f"{path} line {number}: {error}") from None
                    yield offset, values
            offset += len(line)


def _cannot_write(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot write {path}: {error.strerror or error}; free some space and run the same command again")
