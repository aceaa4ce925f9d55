"""A disk that is full at each write in turn: one line says so, and the same command then comes to the right end.

Python's own files fail as on a full disk. Writers in other languages (safetensors, PyTorch, FFmpeg) write through
files of their own; there the flush to disk fails that follows every whole file.
"""

import builtins
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from campaign.commands import Command, content, remove, run
from campaign.kills import difference

__all__ = ["fill_the_disk"]


class _Full(io.FileIO):
    """A file on a full disk."""

    def write(self, _: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.name))

    def fileno(self) -> int:
        """None, so that nobody writes past ``write``."""
        raise io.UnsupportedOperation("fileno")


def failing(number: int, world: Path, counted: Path) -> Callable[[], None]:
    """What makes the writes of a process fail from one on.

    Args:
        number: of the first write that fails; 0 is the first.
        world: only files below it count.
        counted: a file in which the number of writes is left.
    """

    def install() -> None:
        opened, flushed, done = io.open, os.fsync, [0]
        note = os.open(counted, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

        def is_full() -> bool:
            done[0] += 1
            os.pwrite(note, str(done[0]).encode(), 0)
            return done[0] > number

        def full_open(file: Any, mode: str = "r", buffering: int = -1, *more: Any, **options: Any) -> Any:
            path = file if isinstance(file, int) else str(Path(os.fspath(file)).absolute())
            inside = isinstance(path, str) and path.startswith(f"{world}/") and not path.endswith(".lock")
            if inside and set(mode) & set("wax") and is_full():
                raw = _Full(path, mode.replace("b", "").replace("t", ""))
                binary = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
                return binary if "b" in mode else io.TextIOWrapper(binary, encoding="utf-8")
            return opened(file, mode, buffering, *more, **options)

        def full_flush(handle: int) -> None:
            if is_full():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            flushed(handle)

        io.open = builtins.open = full_open  # type: ignore[assignment]
        os.fsync = full_flush  # type: ignore[assignment]

    return install


def fill_the_disk(command: Command, world: Path, most: int = 40) -> dict[str, Any]:
    """Fail from each write on, or from ``most`` of them spread evenly."""
    counted = world / ".writes"
    remove(world, "campaign-a")
    ended = run(command, world, "campaign-a", before=failing(10**9, world, counted))
    assert ended.status == 0, ended.told[-2000:]
    writes = int(counted.read_text())
    whole = content(world, "campaign-a")
    numbers = sorted({round(k * (writes - 1) / max(1, min(most, writes) - 1)) for k in range(min(most, writes))})
    wrong = []
    for number in numbers:
        remove(world, "campaign-d")
        ended = run(command, world, "campaign-d", before=failing(number, world, counted))
        if not ended.is_one_line:
            wrong.append(f"write {number}: status {ended.status}: {ended.told[-600:]}")
        begun = any(world.glob("campaign-d*"))
        last = run(command, world, "campaign-d", *(command.again if begun else ()))
        if last.is_one_line and command.anew:
            remove(world, "campaign-d")
            last = run(command, world, "campaign-d")
        if last.status:
            wrong.append(f"after write {number}: {last.told[-500:]}")
        elif (found := difference(whole, content(world, "campaign-d"))) is not None:
            wrong.append(f"after write {number}: {found}")
    remove(world, "campaign-d")
    return {"writes": writes, "failed_at": len(numbers), "wrong": wrong}
