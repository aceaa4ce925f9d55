"""Times of several pieces of work that take turns (A B A B), so that noise meets all alike, and their peak memory.

Only ratios within one run mean anything on a machine that others use too.
"""

import os
import time
from collections.abc import Callable, Mapping
from statistics import median

# Before numpy or torch is imported: one core is one core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from cost import LiveMemory

__all__ = ["peak_bytes", "ratios", "times"]


def times(works: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds of each, by the clock and of the processor; two rounds go before without being counted."""
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in works}
    for _ in range(repeats + 2):
        for name, work in works.items():
            clock, processor = time.perf_counter(), time.process_time()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            taken[name][0].append(time.perf_counter() - clock)
            taken[name][1].append(time.process_time() - processor)
    return {
        name: {"seconds": median(clock[2:]), "processor_seconds": median(processor[2:])}
        for name, (clock, processor) in taken.items()
    }


def peak_bytes(work: Callable[[], object]) -> int:
    """The most bytes of tensors that live at once during ``work``, beyond what lived before."""
    with LiveMemory() as memory:
        work()
    return memory.peak


def ratios(measured: Mapping[str, Mapping[str, float]], first: str) -> dict[str, dict[str, float]]:
    """Every number over that of ``first``."""
    return {name: {key: value / measured[first][key] for key, value in row.items()} for name, row in measured.items()}
