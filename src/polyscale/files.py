"""Files of a run: written whole or not at all, never outside their folder, by one process at a time."""

import contextlib
import os
import re
import secrets
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from polyscale.errors import UserError

__all__ = [
    "check_folder",
    "check_name",
    "inside",
    "locked",
    "memory_limit",
    "refuse_address",
    "remove_leftovers",
    "walk_files",
    "write_atomically",
]

_LEFT_OVER = re.compile(r"\..*\.[0-9a-f]{12}\.tmp(\.[^.]*)?")
_OLD = 3600.0
"""Seconds after which a temporary file that nobody writes was left by a process that was killed."""
_SWEPT: set[Path] = set()
"""Folders that this process has cleared of such files."""

_HELD: set[Path] = set()
"""Lock files that this process holds, as the system's locks work between processes only."""


@contextlib.contextmanager
def locked(path: Path, refusal: str) -> Iterator[None]:
    """Hold a lock file; the system releases the lock of a process that is killed.

    Where the system or the file system knows no locks, there is none. The file is removed at the end.

    Args:
        path: of the lock file. Its folder is made where it is missing, and removed at the end where it is still empty.
        refusal: what to tell where it is held already.

    Raises:
        UserError: it is held already, or the file cannot be written.
    """
    path = path.absolute()
    if path in _HELD:
        raise UserError(refusal)
    is_new = not path.parent.exists()
    with _lock(path, refusal):
        _HELD.add(path)
        try:
            yield
        finally:
            _HELD.discard(path)
            with contextlib.suppress(OSError):
                path.unlink()
                if is_new:
                    path.parent.rmdir()


def _lock(path: Path, refusal: str) -> TextIO:
    for left in reversed(range(100)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("w")
        except OSError as error:
            raise UserError(
                f"cannot write {path}: {error.strerror or error}; choose a folder that can be written"
            ) from None
        try:
            import fcntl

            # Not flock: child processes share that, and data loaders outlive a killed process by seconds.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_ino == path.stat().st_ino or not left:
                return file
            file.close()  # its holder removed it between open and lock: another file has its name now
        except FileNotFoundError:
            file.close()
        except (BlockingIOError, PermissionError):
            file.close()
            raise UserError(refusal) from None
        except (ImportError, OSError):
            return file
    raise UserError(refusal)


@contextlib.contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success it becomes ``path`` in one step, on failure it is removed.

    A reader sees the old file or the whole new one, never a half of it, also when the disk is full or the process is
    killed. The file's bytes are flushed to disk before the rename, so that a power cut cannot leave an empty file under
    the new name. The temporary name keeps the suffix, which tells some writers the format. What processes left in the
    folder that were killed more than an hour ago is removed.

    Raises:
        UserError: the folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}.tmp{path.suffix[:16]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        mode = temporary.stat().st_mode
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write {path}: {reason}; choose a folder that can be written") from None
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if temporary.stat().st_mode != mode:
            # Some writers (safetensors, torch) put a file of their own here, which others may not read.
            with contextlib.suppress(OSError):
                temporary.chmod(mode)
        temporary.replace(path)
    except OSError as error:
        if error.filename not in (None, str(temporary), temporary):
            raise  # it is about another file, which the caller read meanwhile
        reason = error.strerror or error
        raise UserError(f"cannot write {path}: {reason}; free some space or choose another folder") from None
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: str | Path) -> None:
    """Remove the temporary files in a folder that a process left which was killed inside ``write_atomically``."""
    for path in Path(folder).glob(".*.tmp*"):
        if _LEFT_OVER.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Remove old temporary files from a folder, once in this process: other processes may be writing there."""
    if folder in _SWEPT:
        return
    _SWEPT.add(folder)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _LEFT_OVER.fullmatch(entry.name) and entry.stat().st_mtime < time.time() - _OLD:
                Path(entry.path).unlink(missing_ok=True)


def walk_files(
    folder: str | Path, suffixes: Sequence[str] = (), *, closed: Collection[Path] = (), unless: str | None = None
) -> Iterator[str]:
    """Files below a folder, at any depth: relative to it, with ``/`` between the parts, sorted folder by folder.

    Names that begin with a dot are left out. Links to folders are followed, but not to where the walk has been.

    Args:
        folder: where to begin.
        suffixes: in lower case, such as ``.png``; only files that end so. None are all.
        closed: folders that are not searched, resolved.
        unless: a folder that holds a file of this name is not searched.

    Raises:
        UserError: a folder may not be read.
    """
    base, endings = str(folder), tuple(suffixes)
    for here, folders, names in os.walk(base, onerror=_refuse_closed, followlinks=True):
        if unless in names or (closed and Path(here).resolve() in closed):
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not _leads_back(base, here, name))
        below = Path(here).relative_to(base).as_posix()
        prefix = "" if below == "." else f"{below}/"
        for name in sorted(names):
            if not name.startswith(".") and (not endings or name.lower().endswith(endings)):
                yield prefix + name


def _refuse_closed(error: OSError) -> None:
    """What is in a folder that may not be read would be left out without a word."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise UserError(
            f"cannot read the folder {error.filename}: {error.strerror or error}; change its permissions or move it"
        ) from None


def _leads_back(base: str, here: str, name: str) -> bool:
    """Whether the folder ``name`` in ``here`` is a link to where a walk from ``base`` to ``here`` has been."""
    link = Path(here, name)
    if not link.is_symlink():
        return False
    target = link.resolve()
    passed = [Path(here), *Path(here).parents[: len(Path(here).relative_to(base).parts)]]
    return passed[0].resolve().is_relative_to(target) or any(folder.resolve() == target for folder in passed)


def check_folder(folder: str | Path) -> None:
    """Make sure that a folder can be written or made, before work whose results go there.

    Raises:
        UserError: it is a file, lies below one, or may not be written.
    """
    folder = Path(folder)
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UserError(f"cannot write to {folder}: {existing} is a file; choose a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to {folder}: {existing} may not be written; choose another folder")


_NO_CHARACTER_OF_A_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LONGEST_PART, _LONGEST_NAME = 255, 4000


def check_name(name: object, absolute: bool = False) -> str:
    """Make sure that what one file says is a name of another file, and one that leads downwards.

    Args:
        name: such as ``day/0001``, parts joined by ``/``.
        absolute: it may also be the full path of a file that is only read.

    Returns:
        The name, unchanged.

    Raises:
        UserError: it is not text, is empty or too long, holds control characters or line breaks, or climbs (``..``); or
            (unless ``absolute``) it begins with ``/`` or a drive letter, or holds a backslash.

    Example:
        >>> check_name("day/0001")
        'day/0001'
    """
    if not isinstance(name, str):
        reason = "is not text"
    elif not name.strip():
        reason = "is empty"
    elif _NO_CHARACTER_OF_A_NAME.search(name):
        reason = "holds control characters, line breaks or what is not text"
    elif len(name.encode()) > _LONGEST_NAME or any(len(part.encode()) > _LONGEST_PART for part in name.split("/")):
        reason = "is too long"
    elif ".." in name.replace("\\", "/").split("/"):
        reason = "leads out of its folder (..)"
    elif absolute or not (name.startswith("/") or "\\" in name or re.match("[A-Za-z]:", name)):
        return name
    else:
        reason = "is not relative with / between its parts"
    shown = repr(name)
    raise UserError(f"the file name {shown if len(shown) < 80 else shown[:77] + '...'} {reason}; correct or remove it")


def inside(folder: str | Path, name: object) -> Path:
    """The path of a file in a folder that is written or removed there, by the name that another file gives.

    The folder itself may be a symbolic link; nothing below it may, as what is written or removed would then lie
    elsewhere.

    Args:
        folder: where the file must be.
        name: see ``check_name``.

    Raises:
        UserError: the name is not allowed, or goes through a symbolic link.
    """
    name = check_name(name)
    path = str(folder)
    for part in name.split("/"):
        path = f"{path}/{part}"
        if os.path.islink(path):  # noqa: PTH114 - plain text: asked for each of many files
            raise UserError(f"{path} is a symbolic link, and may lead elsewhere; replace it by a folder or file")
    return Path(path)


@contextlib.contextmanager
def memory_limit(path: str | Path) -> Iterator[None]:
    """While a file is read: this process gets three times its size and half a gigabyte more, then a ``MemoryError``.

    A pickle of some bytes can ask for any amount. Where the system cannot limit memory, this does nothing.
    """
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        before = resource.getrlimit(resource.RLIMIT_AS)
        wanted = pages * resource.getpagesize() + 3 * Path(path).stat().st_size + 2**29
        soft = wanted if before[0] == resource.RLIM_INFINITY else min(wanted, before[0])
        resource.setrlimit(resource.RLIMIT_AS, (soft, before[1]))
    except (ImportError, OSError, ValueError, AttributeError):
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def refuse_address(given: str | Path) -> None:
    """Make sure that a file is not named by an address of the internet, which would only be called missing.

    Raises:
        UserError: it begins like ``https://``.
    """
    # A path has lost the second slash. One letter and a colon are a drive.
    if found := re.match(r"([a-z][a-z+.-]+:)//?", str(given), re.IGNORECASE):
        raise UserError(
            f"{found[1]}//{str(given)[found.end() :]} is an address, and nothing is fetched from the internet; "
            "download it and name the file"
        )
