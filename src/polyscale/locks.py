"""Keeping a second process out of a folder that one is writing to."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from polyscale.config import UserError

__all__ = ["locked"]

_HELD: set[Path] = set()
"""By this process: the system's locks are between processes."""


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
