"""Kills, full disks, several processes and numbers that must not change, for every command that writes.

make faults                             # all, recorded under benchmarks/results
make faults FAULTS="--only kills disk"  # a part, shown and not recorded
make faults FAULTS="--kills 30"
"""

import argparse
import importlib
import json
import os
import pkgutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polyscale
from campaign.commands import COMMANDS, make_world

__all__ = ["main"]

PARTS = ("kills", "together", "disk", "numbers", "processes")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; status 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--commands", nargs="+", default=[command.name for command in COMMANDS])
    parser.add_argument("--kills", type=int, default=30, help="of each command")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of kills")
    parser.add_argument("--seconds", type=float, default=240, help="after which a command is killed no more")
    parser.add_argument("--record", action="store_true", help="write results under benchmarks/results")
    parser.add_argument("--out", type=Path, help="JSON file for results; it keeps what this run does not measure")
    given = parser.parse_args(arguments)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    found: dict[str, Any] = json.loads(given.out.read_text()) if given.out and given.out.exists() else {}
    with tempfile.TemporaryDirectory(prefix="polyscale-faults-") as place:
        for part, name, work in _works(Path(place), given):
            begun = time.monotonic()
            result = work()
            found.setdefault(part, {})[name] = result
            wrong = result.get("wrong", [])
            print(f"{part}, {name}: {_short(result)} in {time.monotonic() - begun:.0f} s", flush=True)
            for line in wrong[:3]:
                print(f"  WRONG {line}", flush=True)
            if given.out:
                given.out.write_text(json.dumps(found, indent=2))
    if given.record:
        from record import save

        save("faults", found)
    failed = [f"{part}, {name}" for part, by in found.items() for name, one in by.items() if one.get("wrong")]
    print("all held" if not failed else f"not held: {'; '.join(failed)}")
    return 1 if failed else 0


def _import_all() -> None:
    """Import what any command needs, so that forked processes have it."""
    for module in pkgutil.walk_packages(polyscale.__path__, "polyscale."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ("av", "jinja2", "matplotlib.figure", "scipy.ndimage", "torch.optim", "torch._dynamo", "sqlite3"):
        importlib.import_module(name)


def _short(result: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in result.items() if key != "wrong")


def _works(place: Path, given: argparse.Namespace) -> list[tuple[str, str, Callable[[], dict[str, Any]]]]:
    from campaign import numbers, processes
    from campaign.disk import fill_the_disk
    from campaign.kills import kill_at_random, two_at_once

    _import_all()
    works: list[tuple[str, str, Callable[[], dict[str, Any]]]] = []
    commands = [command for command in COMMANDS if command.name in given.commands]
    if {"kills", "together", "disk"} & set(given.only):
        child = os.fork()  # the world is made elsewhere: a process that has computed must not be forked
        if child == 0:
            status = 1
            try:
                make_world(place)
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
    for command in commands:
        if "kills" in given.only:
            works.append(
                (
                    "kills",
                    command.name,
                    partial(kill_at_random, command, place, given.kills, given.seed, given.seconds),
                )
            )
        if "together" in given.only:
            works.append(("together", command.name, partial(two_at_once, command, place)))
        if "disk" in given.only:
            works.append(("disk", command.name, partial(fill_the_disk, command, place)))
    if "processes" in given.only:
        works += [("processes", name, partial(work, place / "processes")) for name, work in processes.CHECKS.items()]
    if "numbers" in given.only:  # the last, as they compute in this process
        works += [("numbers", name, partial(work, place / "numbers")) for name, work in numbers.CHECKS.items()]
    return works


if __name__ == "__main__":
    sys.exit(main())
