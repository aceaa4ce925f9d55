"""Kills at random moments, and two runs at once: in the end each folder is that of an uninterrupted run."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from campaign.commands import Command, content, remove, run, start

__all__ = ["difference", "kill_at_random", "two_at_once"]


def difference(whole: dict[str, Any], other: dict[str, Any]) -> str | None:
    """The first file in which two results differ; None where they are equal."""
    for name in sorted(whole.keys() | other.keys()):
        if name not in other:
            return f"{name} is missing"
        if name not in whole:
            return f"{name} is left over"
        if whole[name] != other[name]:
            return f"{name} differs"
    return None


def _sound(command: Command, world: Path) -> tuple[dict[str, Any], float]:
    """What an uninterrupted run leaves, and how long it takes (the second of two, which imports nothing)."""
    seconds = 0.0
    for _ in range(2):
        remove(world, "campaign-a")
        ended = run(command, world, "campaign-a")
        assert ended.status == 0, f"{command.name}: {ended.told[-2000:]}"
        seconds = ended.seconds
    return content(world, "campaign-a"), seconds


def kill_at_random(
    command: Command, world: Path, kills: int, seed: int = 0, most_seconds: float = 240
) -> dict[str, Any]:
    """Kill a command again and again while it runs; what it leaves is killed on, until a run reaches its end.

    Args:
        command: to kill.
        world: its working directory.
        kills: that hit a running process.
        seed: of the moments.
        most_seconds: after which no more kills follow.

    Returns:
        Kills, folders that were brought to their end, and what was wrong.
    """
    whole, seconds = _sound(command, world)
    rng = random.Random(f"{seed} {command.name}")
    hits, ends, wrong = 0, 0, []
    begun = time.monotonic()
    while hits < kills and time.monotonic() - begun < most_seconds:
        remove(world, "campaign-b")
        for _ in range(rng.randrange(1, 7)):  # kills of one folder
            process = start(command, world, "campaign-b", *(command.again if _has_begun(world) else ()))
            ended = process.wait(rng.uniform(0, seconds)) or process.kill()
            hits += ended.status == -signal.SIGKILL
            if ended.status == 0:
                break
            if ended.is_one_line and command.anew:
                remove(world, "campaign-b")
            elif ended.status != -signal.SIGKILL:
                wrong.append(ended.told[-500:])
        last = run(command, world, "campaign-b", *(command.again if _has_begun(world) else ()))
        if last.is_one_line and command.anew:
            remove(world, "campaign-b")
            last = run(command, world, "campaign-b")
        if last.status:
            wrong.append(last.told[-500:])
        elif (found := difference(whole, content(world, "campaign-b"))) is not None:
            wrong.append(found)
        ends += 1
    remove(world, "campaign-b")
    return {"kills": hits, "ends": ends, "seconds_of_a_run": round(seconds, 2), "wrong": wrong}


def _has_begun(world: Path) -> bool:
    return any(world.glob("campaign-b*"))


def two_at_once(command: Command, world: Path, times: int = 4) -> dict[str, Any]:
    """Start a command twice into one folder: one of them is refused, or both come to the same end."""
    whole, seconds = _sound(command, world)
    refused, wrong = 0, []
    for number in range(times):
        remove(world, "campaign-c")
        first = start(command, world, "campaign-c")
        first_ended = first.wait(seconds * (number + 0.5) / times)
        if first_ended is None:
            os.kill(first.pid, signal.SIGSTOP)  # it stands still for as long as the other looks
        second = start(command, world, "campaign-c")
        early = second.wait(min(30, 4 * seconds + 3))
        if first_ended is None:
            os.kill(first.pid, signal.SIGCONT)
            first_ended = first.wait()
        second_ended = early or second.wait()
        assert first_ended is not None
        assert second_ended is not None
        refused += second_ended.is_one_line or first_ended.is_one_line
        both = (first_ended, second_ended)
        wrong += [ended.told[-500:] for ended in both if ended.status and not ended.is_one_line]
        if first_ended.status and second_ended.status:
            wrong.append(f"neither ended well: {first_ended.told[-200:]} {second_ended.told[-200:]}")
        elif (found := difference(whole, content(world, "campaign-c"))) is not None:
            wrong.append(found)
    remove(world, "campaign-c")
    return {"times": times, "refused": refused, "wrong": wrong}
