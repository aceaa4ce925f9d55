"""Damage thousands of files; each must be read, or refused by a ``UserError``, in bounded time and memory.

    make fuzz                                   # all kinds, recorded under benchmarks/results
    make fuzz FUZZ="--each 2000 --kinds COCO"  # a part, shown and not recorded

A child process reads the files of one kind, one after the other; its parent ends it where a file takes too long. What
a find was made of can be made again from its kind, its number and the seed.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from campaign.mutation import mutate
from campaign.samples import KINDS, Kind

__all__ = ["MOST_BYTES", "MOST_SECONDS", "damaged", "fuzz", "main", "resident"]

MOST_SECONDS = 10.0
"""Of the processor, for one file."""
MOST_WAITING = 60.0
"""Seconds by the clock for one file, on a machine that does other work too."""
MOST_BYTES = 2**30
"""That the process may grow by while it reads one file."""
ROOM = 4 * 2**30
"""Address space beyond what the process has at its start."""
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where files are damaged, so that no disk is waited for."""
STARTING = 900.0
"""Seconds until a sound file was made and read."""


class Outcome(NamedTuple):
    """What became of one file.

    Attributes:
        kind: of the file.
        number: of the file.
        outcome: ``read``, ``refused``, or what was wrong.
        seconds: of the processor that it took.
        grown: bytes that the process grew by.
        told: the message, or the end of the traceback.
    """

    kind: str
    number: int
    outcome: str
    seconds: float
    grown: int
    told: str

    @property
    def is_find(self) -> bool:
        """Whether something is to be mended."""
        return self.outcome not in ("read", "refused")


def damaged(kind: Kind, number: int, sound: bytes, seed: int = 0) -> bytes:
    """The file of a number."""
    return mutate(sound, kind.form, random.Random(f"{seed} {kind.name} {number}"))


def attempt(kind: Kind, number: int, folder: Path) -> Outcome:
    """Read the damaged file in a folder."""
    from polyscale.errors import UserError

    _forget_peak()
    before, start, told = resident("VmRSS"), time.process_time(), ""
    try:
        kind.read(folder)
        outcome = "read"
    except UserError as error:
        told = str(error)
        outcome = "refused" if told.strip() else "no message"
    except Exception as error:
        outcome, told = type(error).__name__, _last_lines(error)
    seconds, grown = time.process_time() - start, max(0, resident("VmHWM") - before)
    if outcome in ("read", "refused"):
        outcome = "too slow" if seconds > MOST_SECONDS else "too large" if grown > MOST_BYTES else outcome
    return Outcome(kind.name, number, outcome, round(seconds, 3), grown, told[:2000])


def _last_lines(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)[-4:])[-1500:]


def resident(key: str) -> int:
    """Bytes of this process: ``VmRSS`` now, ``VmHWM`` at most."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return 0


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _serve(kind: Kind, first: int, end: int, seed: int, to: int) -> NoReturn:
    """The child: reads files one after the other, and says so before and after each."""
    status, shown = 1, os.dup(2)
    try:
        warnings.simplefilter("ignore")
        with (
            tempfile.TemporaryDirectory(prefix="polyscale-fuzz-", dir=MEMORY) as place,
            os.fdopen(to, "w", buffering=1) as say,
        ):
            folder = Path(place) / "sound"
            folder.mkdir()
            kind.build(folder)
            path = folder / kind.target
            sound = path.read_bytes()
            kind.read(folder)  # what is sound is read, and imports are done
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            size = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, resource.getrlimit(resource.RLIMIT_AS)[1]))
            for number in range(first, end):
                path.write_bytes(damaged(kind, number, sound, seed))
                say.write(f"{number}\n")
                say.write(json.dumps(attempt(kind, number, folder)) + "\n")
        status = 0
    except BaseException:
        os.dup2(shown, 2)
        traceback.print_exc()
    finally:
        os._exit(status)


def fuzz(kind: Kind, numbers: range, seed: int = 0) -> Iterator[Outcome]:
    """Read the damaged files of one kind."""
    first, strikes = numbers.start, Counter[int]()
    while first < numbers.stop:
        for given in _watched(kind, first, numbers.stop, seed):
            if isinstance(given, Outcome):
                yield given
                first = given.number + 1
            else:
                break
        else:
            if first < numbers.stop:
                raise RuntimeError(f"the process that reads files of kind {kind.name!r} ended before file {first}")
            return
        number, outcome = given
        first = number
        strikes[number] += 1
        if strikes[number] > 1:  # a busy machine is given a second chance
            yield Outcome(kind.name, number, outcome, MOST_WAITING, 0, "")
            first += 1


def _watched(kind: Kind, first: int, end: int, seed: int) -> Iterator[Outcome | tuple[int, str]]:
    """What a child says; at last the number of a file that it did not survive, and why."""
    heard, said = os.pipe()
    child = os.fork()  # with what is imported already
    if child == 0:
        _serve(kind, first, end, seed, said)
    os.close(said)
    current: int | None = None
    held = b""
    try:
        while True:
            patience = STARTING if current is None else MOST_WAITING
            if not select.select([heard], [], [], patience)[0]:
                if current is None:
                    raise RuntimeError(f"no sound file of kind {kind.name!r} after {patience} s")
                yield current, "too slow"
                return
            block = os.read(heard, 1 << 16)
            if not block:
                break
            *lines, held = (held + block).split(b"\n")
            for line in lines:
                if line.startswith(b"["):
                    current = None
                    yield Outcome(*json.loads(line))
                else:
                    current = int(line)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        child = 0
        if current is not None:
            yield current, f"ended by signal {-status}" if status < 0 else f"ended with status {status}"
        elif status:
            raise RuntimeError(f"the process that reads files of kind {kind.name!r} ended with status {status}")
    finally:
        os.close(heard)
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def chosen(names: Sequence[str]) -> list[Kind]:
    """Kinds by their name or group; all where none is given."""
    wanted = {name.lower() for name in names}
    return [kind for kind in KINDS if not wanted or {kind.name.lower(), kind.group.lower()} & wanted]


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Counts of one kind, and the worst time and growth."""
    return {
        "files": len(outcomes),
        "read": sum(one.outcome == "read" for one in outcomes),
        "refused": sum(one.outcome == "refused" for one in outcomes),
        "finds": sum(one.is_find for one in outcomes),
        "longest_seconds": max(one.seconds for one in outcomes),
        "most_megabytes": round(max(one.grown for one in outcomes) / 1e6),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; status 1 where there are finds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=400, help="files of a kind; some kinds get a multiple of it")
    parser.add_argument("--kinds", nargs="+", default=[], help="names or groups")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder in which the files of finds are kept")
    parser.add_argument("--out", type=Path, help="JSON file for the counts; it keeps those of kinds that are not read")
    parser.add_argument("--record", action="store_true", help="write the counts under benchmarks/results")
    given = parser.parse_args(arguments)
    import polyscale.training  # noqa: F401 - what most children need

    kinds = chosen(given.kinds)
    groups: dict[str, Any] = json.loads(given.out.read_text()) if given.out and given.out.exists() else {}
    for kind in kinds:
        start = time.monotonic()
        found = list(fuzz(kind, range(max(1, round(given.each * kind.share))), given.seed))
        groups.setdefault(kind.group, {})[kind.name] = summary(found)
        if given.out:
            given.out.write_text(json.dumps(groups, indent=2))
        finds = [one for one in found if one.is_find]
        print(f"{kind.name}: {len(found)} files in {time.monotonic() - start:.0f} s, {len(finds)} finds", flush=True)
        by_end = {(one.outcome, one.told.strip()[-160:] if one.told else ""): one for one in reversed(finds)}
        for one in by_end.values():
            print(f"  {one.number}: {one.outcome}, {one.seconds} s, {one.grown / 1e6:.0f} MB\n{one.told}", flush=True)
        if given.keep and finds:
            _keep(kind, finds, given.keep, given.seed)
    total, num_finds = (sum(kind[key] for by in groups.values() for kind in by.values()) for key in ("files", "finds"))
    print(f"{total} files, {num_finds} finds")
    if given.record:
        from record import save

        limits = {"seconds": MOST_SECONDS, "megabytes": round(MOST_BYTES / 1e6)}
        save("fuzz", {"files": total, "seed": given.seed, "limits": limits, "groups": groups})
    return 1 if num_finds else 0


def _keep(kind: Kind, finds: Sequence[Outcome], folder: Path, seed: int) -> None:
    with tempfile.TemporaryDirectory(prefix="polyscale-fuzz-") as place:
        kind.build(Path(place))
        sound = (Path(place) / kind.target).read_bytes()
        for one in finds:
            path = folder / kind.name / str(one.number) / Path(kind.target).name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(place, path.parent, dirs_exist_ok=True)
            path.write_bytes(damaged(kind, one.number, sound, seed))


if __name__ == "__main__":
    sys.exit(main())
