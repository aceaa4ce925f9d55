"""The commands that write: how each is called in a small world, and what it leaves when nothing goes wrong."""

import json
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from campaign import sound
from polyscale.config import dump_yaml

__all__ = ["COMMANDS", "Command", "Ended", "Started", "content", "make_world", "run", "start"]

NUM_IMAGES = 8

_PASSING = ("date", "seconds", "environment", "git_commit", "started", "duration", "speed", "images_per_second")
"""Keys of JSON files that differ from run to run."""
_UNCOMPARED = ("environment.json", ".lock")
_LEFT_OVER = re.compile(r"\..*\.[0-9a-f]{12}\.tmp(\.[^.]*)?")


class Command(NamedTuple):
    """One command line.

    Attributes:
        name: in the table.
        words: the arguments; ``{out}`` is what it writes.
        again: added when it continues.
        anew: whether what a killed run left must be removed first; the command then says so.
    """

    name: str
    words: tuple[str, ...]
    again: tuple[str, ...] = ()
    anew: bool = False


_CPU = ("--device", "cpu")
_ATTEND = ("epochs=1", "channels=8", "scales=[0.5,1]")
COMMANDS = (
    Command("train", ("train", "recipe.yaml", "--out", "{out}"), ("--resume",)),
    Command(
        "autolabel run",
        ("autolabel", "run", "net.safetensors", "photos", "--out", "{out}", "--confidence", "--workers", "1", *_CPU),
    ),
    Command("evaluate", ("evaluate", "net.safetensors", "data", "--split", "val", "--out", "{out}", *_CPU)),
    Command("attend", ("attend", "plain.safetensors", "data", *_ATTEND, "--out", "{out}", *_CPU)),
    Command("video", ("video", "net.safetensors", "film.mp4", "{out}.mp4", *_CPU), ("--replace",)),
    Command("report", ("report", "evaluated", "--out", "{out}.html")),
    Command("predict", ("predict", "net.safetensors", "photos", "--out", "{out}", *_CPU)),
    Command("export-labels", ("export-labels", "data:train", "--to", "coco", "--out", "{out}"), anew=True),
    Command("data convert", ("data", "convert", "data", "{out}", "--workers", "1"), anew=True),
)


def make_world(root: Path) -> None:
    """What the commands read."""
    sound.squares(root / "data", (NUM_IMAGES, 2))
    sound.network(root / "net.safetensors")
    values = sound.recipe_values(root / "data", save_every=0.05, epochs=2)
    (root / "recipe.yaml").write_text(dump_yaml(values), encoding="utf-8")
    photos = root / "photos"
    photos.mkdir()
    for number, path in enumerate(sorted((root / "data" / "images" / "train").iterdir())):
        with Image.open(path) as image:
            image.resize((56 + 8 * (number % 2), 48)).save(photos / path.name)
    sound.film(root / "film.mp4", "mpeg4", 12)
    _plain(root / "plain.safetensors")
    (root / "evaluated").mkdir()
    sound.evaluation(root / "evaluated")


def _plain(path: Path) -> None:
    import torch

    from polyscale.config import validate
    from polyscale.models import ModelConfig, build_model, save_checkpoint

    torch.manual_seed(0)
    config = {**sound.recipe_values(path)["model"], "multiscale": {"method": "average"}}
    save_checkpoint(path, build_model(validate(ModelConfig, config), sound.SPACE), sound.SPACE)


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        status: of its exit; negative for a signal.
        told: on standard error.
        seconds: that it took.
    """

    status: int
    told: str
    seconds: float

    @property
    def is_one_line(self) -> bool:
        """Whether it was refused or failed with one line."""
        errors = [line for line in self.told.splitlines() if line.startswith("error: ")]
        return self.status == 2 and len(errors) == 1 and "Traceback" not in self.told


class Started:
    """A command under way, in a process forked from this one, so that nothing is imported again.

    Args:
        words: its arguments.
        world: its working directory.
        before: called in the new process first.
    """

    def __init__(self, words: list[str], world: Path, before: Callable[[], None] | None = None) -> None:
        self._told = world / f".told-{time.monotonic_ns()}"
        self._begun = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(words, world, before)

    def _become(self, words: list[str], world: Path, before: Callable[[], None] | None) -> None:
        status = 70
        try:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.chdir(world)
            file = os.open(self._told, os.O_WRONLY | os.O_CREAT, 0o666)
            os.dup2(file, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.argv = ["polyscale", *words]
            if before is not None:
                before()
            from polyscale.cli import main

            status = main(words)
            sys.stderr.flush()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)

    def wait(self, seconds: float = 300) -> Ended | None:
        """How it ended, or None where it has not after so many seconds."""
        end = time.monotonic() + seconds
        while True:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                told = self._told.read_text(errors="replace") if self._told.exists() else ""
                self._told.unlink(missing_ok=True)
                return Ended(os.waitstatus_to_exitcode(status), told, time.monotonic() - self._begun)
            if time.monotonic() > end:
                return None
            time.sleep(0.002)

    def kill(self) -> Ended:
        """End it as the system does that has no memory left."""
        os.kill(self.pid, signal.SIGKILL)
        ended = self.wait()
        assert ended is not None
        return ended


def start(command: Command, world: Path, out: str, *more: str, before: Callable[[], None] | None = None) -> Started:
    """Start a command that writes into ``out``."""
    return Started([word.replace("{out}", out) for word in command.words] + list(more), world, before)


def run(command: Command, world: Path, out: str, *more: str, before: Callable[[], None] | None = None) -> Ended:
    """Run a command to its end."""
    ended = start(command, world, out, *more, before=before).wait()
    assert ended is not None, f"{command.name} did not end"
    return ended


def content(world: Path, out: str) -> dict[str, Any]:
    """All that a command left: bytes by path, and JSON without times and dates."""
    found: dict[str, Any] = {}
    for top in sorted(world.glob(f"{out}*")):
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            name = path.relative_to(world).as_posix().removeprefix(out)
            if path.is_file() and path.name not in _UNCOMPARED and not _LEFT_OVER.fullmatch(path.name):
                found[name] = _plain_values(path, out)
    return found


def _plain_values(path: Path, out: str) -> Any:
    if path.suffix == ".pt":  # whose bytes tell which objects were one
        import torch

        return _comparable(torch.load(path, weights_only=True))
    data = path.read_bytes()
    if path.suffix not in (".json", ".jsonl"):
        return data.replace(out.encode(), b"OUT")
    text = data.decode().replace(out, "OUT")
    lines = text.splitlines() if path.suffix == ".jsonl" else [text]
    return [_without_times(json.loads(line)) for line in lines]


def _comparable(value: Any) -> Any:
    """Plain values in place of tensors, which do not compare as one."""
    if isinstance(value, dict):
        return {key: _comparable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_comparable(inner) for inner in value]
    return (str(value.dtype), value.shape, value.tolist()) if hasattr(value, "tolist") else value


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(inner) for key, inner in value.items() if key not in _PASSING}
    return [_without_times(inner) for inner in value] if isinstance(value, list) else value


def remove(world: Path, out: str) -> None:
    """Remove all that a command left."""
    import shutil

    for path in world.glob(f"{out}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
