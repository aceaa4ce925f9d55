"""Keeping a second process out of a folder that one is writing to."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from polyscale.config import UserError

__all__ = ["locked"]


@contextlib.contextmanager
def locked(path: Path, refusal: str) -> Iterator[None]:
    """Hold a lock file; the system releases the lock of a process that is killed.

    Where the system or the file system knows no locks, there is none. The file is removed at the end.

    Args:
        path: of the lock file; its folder is made where it is missing.
        refusal: what to tell where another process holds it.

    Raises:
        UserError: another process holds it, or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; choose a folder that can be written"
        ) from None
    with file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(refusal) from None
        except (ImportError, OSError):
            pass
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
