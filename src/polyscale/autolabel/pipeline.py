"""Loading, the network and writing at the same time, so that the network is what takes the time.

Which images the network sees together depends on their order in the whole set, never on what is left to do: a batch of
other images may round differently in the last bit, and the labels after a kill must be those of a run without. So an
image that is done may be loaded again to fill its batch.
"""

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from polyscale.autolabel.records import Failure, Stamp
from polyscale.autolabel.teacher import Teacher
from polyscale.errors import UserError

__all__ = ["Loaded", "Looked", "Result", "Timing", "chunks_of", "in_threads", "look"]

Array = np.ndarray[Any, np.dtype[np.uint8]]
Job = TypeVar("Job")
Result = TypeVar("Result")

_BATCHES_IN_CHUNK = 4


class Loaded(NamedTuple):
    """An image as it was loaded."""

    name: str
    pixels: Array
    """(H, W, 3) RGB."""
    stamp: Stamp


class Looked(NamedTuple):
    """An image, and what the teacher says of it."""

    image: Loaded
    classes: Array
    """(H, W) train ids of the most probable class."""
    confidence: np.ndarray[Any, np.dtype[np.float32]]
    """(H, W), its probability."""


@dataclass
class Timing:
    """Seconds that this process spent on each kind of work."""

    total: float = 0.0
    network: float = 0.0
    loading: float = 0.0
    """The network waited for images."""
    encoding: float = 0.0
    """Threads made and wrote files, beside the network; the sum over threads."""
    num_images: int = 0

    @property
    def writing(self) -> float:
        """The network waited for files to be written."""
        return max(0.0, self.total - self.network - self.loading)


def in_threads(
    work: Callable[[Job], Result], jobs: Iterable[Job], workers: int, ahead: int | None = None
) -> Generator[Result, None, None]:
    """Results in the order of the jobs.

    Close the generator where it may be left early: jobs that have not begun are then dropped.

    Args:
        work: what to do with each job, in a thread.
        jobs: taken one by one in the calling thread, while the threads work.
        workers: number of threads.
        ahead: jobs that may be taken before the first of their results is needed; by default 3 for each thread.
    """
    pool, running = ThreadPoolExecutor(workers), deque[Future[Result]]()
    try:
        for job in jobs:
            running.append(pool.submit(work, job))
            if len(running) > (3 * workers if ahead is None else ahead):
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def chunks_of(names: Sequence[str], batch: int) -> list[tuple[str, ...]]:
    """Cut a sorted list into parts a few batches long; images of equal size within a part go together."""
    size = batch * _BATCHES_IN_CHUNK if batch > 1 else 1
    return [tuple(names[start : start + size]) for start in range(0, len(names), size)]


def look(
    teacher: Teacher,
    load: Callable[[str], Loaded],
    chunks: Sequence[Sequence[str]],
    wanted: Collection[str],
    batch: int,
    workers: int,
    timing: Timing,
) -> Generator[Looked | Failure, None, None]:
    """Load images in threads and show them to the teacher.

    Args:
        teacher: the network.
        load: reads one image, or says in a ``UserError`` why it cannot be used.
        chunks: names of images, as ``chunks_of`` cuts them.
        wanted: the images to yield.
        batch: images of one size that the network sees together.
        workers: number of threads.
        timing: to which the time is added.
    """

    def load_or_fail(name: str) -> Loaded | Failure:
        try:
            return load(name)
        except UserError as error:
            return Failure(image=name, error=str(error))

    names = (name for chunk in chunks for name in chunk)
    ahead = 2 * workers + max(map(len, chunks), default=0)
    with contextlib.closing(in_threads(load_or_fail, names, workers, ahead)) as loaded:
        for chunk in chunks:
            started = time.perf_counter()
            images = list(itertools.islice(loaded, len(chunk)))
            timing.loading += time.perf_counter() - started
            of_size: dict[tuple[int, ...], list[Loaded]] = {}
            for image in images:
                if isinstance(image, Loaded):
                    of_size.setdefault(image.pixels.shape, []).append(image)
                elif image.image in wanted:
                    yield image
            for group in of_size.values():
                for start in range(0, len(group), batch):
                    yield from _look(teacher, group[start : start + batch], wanted, timing)


def _look(
    teacher: Teacher, images: Sequence[Loaded], wanted: Collection[str], timing: Timing
) -> Iterator[Looked | Failure]:
    """The teacher's output for the wanted images of a batch."""
    if not any(image.name in wanted for image in images):
        return
    started = time.perf_counter()
    try:
        looked = teacher.look(np.stack([image.pixels for image in images]))
    except UserError as error:
        timing.network += time.perf_counter() - started
        if len(images) == 1:
            yield Failure(image=images[0].name, error=str(error))
        else:  # find out which image it is
            for image in images:
                yield from _look(teacher, [image], wanted, timing)
        return
    timing.network += time.perf_counter() - started
    for index, image in enumerate(images):
        if image.name in wanted:
            yield Looked(image, looked.classes[index], looked.confidence[index])
