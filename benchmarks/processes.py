"""Variants of a piece of work, each in a process of its own, turn and turn about: A B A B.

A process has its own allocator and its own peak of memory, so what one variant leaves behind does not help or hurt the
next. Beside the time by the clock stand the processor's, in the program and in the kernel, and the page faults: other
work on the machine touches these less.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["Measured", "measure_here", "turn_about"]

Measured = dict[str, float]
"""seconds, user_seconds, system_seconds, page_faults (medians of one call), idle_mb, peak_mb, above_idle_mb."""


def _now() -> tuple[float, float, float, int]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime, used.ru_stime, used.ru_minflt


def _memory(field: str) -> float:
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    lines = dict(line.split(":", 1) for line in text.splitlines())
    return int(lines[field].split()[0]) / 1024


def measure_here(work: Callable[[], Any], repeats: int, warm_up: int = 1) -> Measured:
    """Time ``work`` in this process and print the result as the last line, for ``turn_about`` to read."""
    idle = _memory("VmRSS")
    for _ in range(warm_up):
        work()
    calls = []
    for _ in range(repeats):
        before = _now()
        work()
        calls.append([after - start for after, start in zip(_now(), before, strict=True)])
    names = ("seconds", "user_seconds", "system_seconds", "page_faults")
    measured = {name: median(values) for name, values in zip(names, zip(*calls, strict=True), strict=True)}
    return measured | {"idle_mb": idle, "peak_mb": _memory("VmHWM"), "above_idle_mb": _memory("VmHWM") - idle}


def turn_about(script: str, variants: dict[str, list[str]], rounds: int, **environment: str) -> dict[str, Measured]:
    """Run ``script --variant …`` for each variant in turn, ``rounds`` times; medians over the rounds.

    Args:
        script: a file that prints ``json.dumps(measure_here(...))`` as its last line.
        variants: name -> arguments.
        rounds: of all variants.
        environment: variables for the processes.
    """
    found: dict[str, list[Measured]] = {name: [] for name in variants}
    settings = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    for _ in range(rounds):
        for name, arguments in variants.items():
            command = [sys.executable, script, *arguments]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=settings)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    return {name: {key: median(run[key] for run in runs) for key in runs[0]} for name, runs in found.items()}
