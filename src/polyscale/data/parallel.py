"""Work on many images at once: threads, results in order, and a bound on the pixels in memory.

Threads, not processes: Pillow decodes outside the interpreter's lock.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from polyscale.data.images import image_size
from polyscale.errors import UserError

__all__ = ["MOST_PIXELS", "Progress", "in_parallel", "num_cores", "pixels_of"]

Job = TypeVar("Job")
Result = TypeVar("Result")

Progress = Callable[[int, int], None]
"""Called with (how many are done, how many in all)."""

MOST_PIXELS = 200_000_000
"""Pixels that all threads together hold; about 2 GB. A single image may have more and is then read alone."""


def in_parallel(
    jobs: Sequence[Job],
    work: Callable[[Job], Result],
    workers: int | None = None,
    progress: Progress | None = None,
    pixels: Callable[[Job], int] | None = None,
) -> Iterator[Result]:
    """Results in the order of jobs; a failure or an interrupt does not wait for the rest.

    Args:
        jobs: what to work on.
        work: what to do with each, in a thread.
        workers: number of threads; by default one a core.
        progress: called after each job.
        pixels: how many pixels a job will hold; jobs wait while those under way hold ``MOST_PIXELS``.
    """
    budget = _Budget(MOST_PIXELS)

    def bounded(job: Job) -> Result:
        size = 0 if pixels is None else pixels(job)
        budget.take(size)
        try:
            return work(job)
        finally:
            budget.give(size)

    pool = ThreadPoolExecutor(workers or num_cores())
    try:
        for done, result in enumerate(pool.map(bounded, jobs), start=1):
            if progress is not None:
                progress(done, len(jobs))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def pixels_of(*paths: Path | None) -> int:
    """Pixels of image files by their headers; a file that cannot be read has none."""
    total = 0
    for path in paths:
        if path is not None and path.exists():
            try:
                height, width = image_size(path)
            except UserError:
                continue
            total += height * width
    return total


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Budget:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._taken == 0 or self._taken + size <= self._limit)
            self._taken += size

    def give(self, size: int) -> None:
        with self._changed:
            self._taken -= size
            self._changed.notify_all()
