"""One process a folder, whatever becomes of the others."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from polyscale.errors import UserError
from polyscale.files import locked

fcntl = pytest.importorskip("fcntl")

HOLD = """
import os, sys, time
from pathlib import Path
from polyscale.files import locked
with locked(Path(sys.argv[1]), ""):
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    time.sleep(60)
"""


def test_what_another_process_holds_is_refused_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "new" / ".lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(UserError, match="in use"), locked(path, "in use"):
            pass
        holder.kill()
        holder.wait()
        with locked(path, "in use"):  # at once, though the child of the one that was killed lives on
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        holder.stdout.close()
    assert not path.exists()


def test_this_process_cannot_hold_it_twice(tmp_path: Path) -> None:
    with locked(tmp_path / ".lock", ""):
        with pytest.raises(UserError, match="in use"), locked(tmp_path / ".lock", "in use"):
            pass
        assert (tmp_path / ".lock").exists()
    with locked(tmp_path / ".lock", ""):
        pass
    assert tmp_path.exists()
    with locked(tmp_path / "new" / ".lock", ""):
        pass
    assert not (tmp_path / "new").exists()


def test_a_file_that_its_holder_removes_in_between_is_not_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock, taken = tmp_path / ".lock", fcntl.lockf, []

    def late(file, flags):
        if not taken:
            path.unlink()
        lock(file, flags)
        taken.append(os.fstat(file.fileno()).st_ino)

    monkeypatch.setattr(fcntl, "lockf", late)
    with locked(path, ""):
        assert len(taken) == 2
        assert path.stat().st_ino == taken[1]
