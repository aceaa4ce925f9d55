"""One process a folder, whatever becomes of the others."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from polyscale.errors import UserError
from polyscale.files import check_name, inside, locked, refuse_address, walk_files, write_atomically

fcntl = pytest.importorskip("fcntl")

HOLD = """
import os, sys, time
from pathlib import Path
from polyscale.files import locked, walk_files
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


REFUSED = [
    ("../../victim", "leads out"),
    ("a/../../victim", "leads out"),
    ("..", "leads out"),
    ("a\\..\\..\\victim", "leads out"),
    ("/etc/passwd", "not relative"),
    ("C:victim", "not relative"),
    ("a\\b", "not relative"),
    ("a\0b", "control characters"),
    ("a\nb", "control characters"),
    ("a\u2028b", "control characters"),
    ("a\x9bb", "control characters"),
    ("caf\udce9", "control characters"),
    ("", "is empty"),
    (" ", "is empty"),
    ("a" * 300, "is too long"),
    ("a/" * 3000, "is too long"),
    (7, "is not text"),
    (None, "is not text"),
    (["a"], "is not text"),
    ({"a": [[["b"]]]}, "is not text"),
    (b"a", "is not text"),
]


@pytest.mark.parametrize(("name", "reason"), REFUSED)
def test_what_is_no_name_of_a_file_below_is_refused_in_one_short_line(
    tmp_path: Path, name: object, reason: str
) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        inside(tmp_path, name)
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "name", ["a", "day/0001", "..a/b..", "a b#c, d", "\u00fc\u00a0\u3000x", ".hidden", "12:30", "./a//b"]
)
def test_other_names_are_paths_below(tmp_path: Path, name: str) -> None:
    assert inside(tmp_path, name) == tmp_path / name


def test_a_path_that_is_only_read_may_be_absolute_but_not_climb(tmp_path: Path) -> None:
    assert check_name(f"{tmp_path}/a", absolute=True) == f"{tmp_path}/a"
    with pytest.raises(UserError, match="leads out"):
        check_name(f"{tmp_path}/../a", absolute=True)


def test_a_link_is_followed_only_where_it_is_the_folder_itself(tmp_path: Path) -> None:
    (tmp_path / "real" / "a").mkdir(parents=True)
    (tmp_path / "out").symlink_to("real")
    assert inside(tmp_path / "out", "a/b") == tmp_path / "out" / "a" / "b"
    (tmp_path / "real" / "l").symlink_to(tmp_path)
    (tmp_path / "real" / "a" / "f").symlink_to("gone")
    for name in ("l", "l/a/b", "a/f"):
        with pytest.raises(UserError, match="is a symbolic link"):
            inside(tmp_path / "out", name)


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_a_walk_is_sorted_and_leaves_hidden_names_out(tmp_path):
    touch(tmp_path, "b.PNG", "a.png", "x/c.jpg", "x/y/d.png", ".hidden.png", ".cache/e.png", "notes.txt")
    assert list(walk_files(tmp_path, (".png", ".jpg"))) == ["a.png", "b.PNG", "x/c.jpg", "x/y/d.png"]
    assert "notes.txt" in list(walk_files(tmp_path))


def test_a_walk_follows_links_but_not_in_circles(tmp_path):
    touch(tmp_path, "elsewhere/a.png", "images/b.png", "images/deep/c.png")
    (tmp_path / "images/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images/deep/up").symlink_to(tmp_path / "images")
    assert list(walk_files(tmp_path / "images")) == ["b.png", "deep/c.png", "linked/a.png"]


def test_a_walk_leaves_closed_and_marked_folders_out(tmp_path):
    touch(tmp_path, "a.png", "out/b.png", "labels/autolabel.json", "labels/masks/c.png", "more/d.png")
    found = walk_files(tmp_path, (".png",), closed=[(tmp_path / "out").resolve()], unless="autolabel.json")
    assert list(found) == ["a.png", "more/d.png"]


def test_a_folder_that_may_not_be_read_is_told_and_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.png").touch()
    look = os.scandir

    def scandir(path: str) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return look(path)

    monkeypatch.setattr(os, "scandir", scandir)  # root may read every folder
    with pytest.raises(UserError, match=r"cannot read the folder .*closed: Permission denied; change its permissions"):
        list(walk_files(tmp_path))
    assert list(walk_files(tmp_path / "none")) == []


def test_what_a_killed_process_left_long_ago_is_removed(tmp_path: Path) -> None:
    old, new, other = (tmp_path / name for name in (".a.png.0123456789ab.tmp.png", ".b.0123456789ab.tmp", ".mine.tmp"))
    for path in (old, new, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (1e9, 1e9))
    with write_atomically(tmp_path / "c.txt") as temporary:
        temporary.write_text("c")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([new.name, other.name, "c.txt"])


@pytest.mark.parametrize("given", ["https://example.com/a.jpg", Path("https://example.com/a.jpg")])
def test_an_address_is_told_whole_also_where_a_path_lost_a_slash(given):
    with pytest.raises(UserError, match="^https://example.com/a.jpg is an address"):
        refuse_address(given)
    refuse_address("C:/images/a.jpg")
    refuse_address("images/a.jpg")
