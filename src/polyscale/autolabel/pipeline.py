"""Loading, the network and writing at the same time, so that the network is what takes the time.

Unusual here: which images the network sees together is decided by their order in the whole set, never by what is left
to do, because a batch of other neighbours may round differently in the last bit: after any number of kills the labels
are those of an uninterrupted run. So an image that is done already may be loaded again for the sake of its batch.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import BoundedSemaphore, Lock
from typing import Any, NamedTuple

import numpy as np

from polyscale.autolabel.records import Stamp
from polyscale.autolabel.teacher import Looked, Teacher
from polyscale.errors import UserError

__all__ = ["Loaded", "Pipeline", "Timing", "chunks_of"]

Array = np.ndarray[Any, np.dtype[np.uint8]]

_BATCHES_AHEAD = 4


class Loaded(NamedTuple):
    """One image."""

    name: str
    pixels: Array
    """(H, W, 3) RGB."""
    stamp: Stamp


@dataclass
class Timing:
    """Where the time went, in seconds of this process."""

    total: float = 0.0
    network: float = 0.0
    loading: float = 0.0
    """The network waited for images."""
    writing: float = 0.0
    """The network waited for files to be written."""
    encoding: float = 0.0
    """Work of the threads that make and write files, beside the network."""
    num_images: int = 0
    lock: Lock = field(default_factory=Lock, repr=False)


def chunks_of(names: Sequence[str], batch: int) -> list[tuple[str, ...]]:
    """Cut a sorted list into neighbours, a few batches long; within one, images of equal size go together."""
    size = batch * _BATCHES_AHEAD if batch > 1 else 1
    return [tuple(names[start : start + size]) for start in range(0, len(names), size)]


@dataclass
class Pipeline:
    """Images through the network.

    Attributes:
        teacher: the network.
        load: reads one image; what it raises as ``UserError`` goes to ``fail``.
        finish: makes of (image, classes (H, W), confidence (H, W)) what is to be kept; runs in a thread. What it raises
            ends the run.
        fail: told of an image that cannot be used, and why.
        batch: images of one size that the network sees together.
        workers: threads to load, and as many to finish.
    """

    teacher: Teacher
    load: Callable[[str], Loaded]
    finish: Callable[[Loaded, Array, np.ndarray[Any, Any]], None]
    fail: Callable[[str, str], None]
    batch: int
    workers: int

    def run(
        self, chunks: Sequence[Sequence[str]], wanted: Callable[[str], bool], advance: Callable[[], None]
    ) -> Timing:
        """Show all chunks to the network and finish the images that are wanted.

        Args:
            chunks: names of images, as ``chunks_of`` cuts them.
            wanted: whether an image is to be finished.
            advance: called for each wanted image that is finished or has failed.

        Raises:
            UserError: a file cannot be written.
        """
        timing = Timing()
        started = time.perf_counter()
        room = BoundedSemaphore(2 * self.workers + self.batch)
        loaders, writers = ThreadPoolExecutor(self.workers), ThreadPoolExecutor(self.workers)
        running: deque[Future[None]] = deque()
        try:
            for images in self._loaded(chunks, wanted, loaders, timing, advance):
                for together in _batches(images, self.batch):
                    if not any(wanted(image.name) for image in together):
                        continue
                    for image, looked in self._look(together, timing, wanted, advance):
                        before = time.perf_counter()
                        room.acquire()
                        timing.writing += time.perf_counter() - before
                        future = writers.submit(self._finish, image, looked, timing, advance)
                        future.add_done_callback(lambda _: room.release())
                        running.append(future)
                while running and running[0].done():
                    running.popleft().result()
            before = time.perf_counter()
            for future in running:
                future.result()
            timing.writing += time.perf_counter() - before
        finally:
            for pool in (loaders, writers):
                pool.shutdown(wait=True, cancel_futures=True)
        timing.total = time.perf_counter() - started
        return timing

    def _loaded(
        self,
        chunks: Sequence[Sequence[str]],
        wanted: Callable[[str], bool],
        loaders: ThreadPoolExecutor,
        timing: Timing,
        advance: Callable[[], None],
    ) -> Iterator[list[Loaded]]:
        """The images of each chunk that can be read, the next chunk being read meanwhile."""
        ahead = max(1, -(-2 * self.workers // max(1, len(chunks[0])))) if chunks else 0
        queue: deque[list[tuple[str, Future[Loaded]]]] = deque()
        following = iter(chunks)
        while True:
            while len(queue) <= ahead and (chunk := next(following, None)) is not None:
                queue.append([(name, loaders.submit(self.load, name)) for name in chunk])
            if not queue:
                return
            images = []
            before = time.perf_counter()
            for name, future in queue.popleft():
                try:
                    images.append(future.result())
                except UserError as error:  # noqa: PERF203 - each image for itself
                    if wanted(name):
                        self.fail(name, str(error))
                        advance()
            timing.loading += time.perf_counter() - before
            yield images

    def _look(
        self, images: list[Loaded], timing: Timing, wanted: Callable[[str], bool], advance: Callable[[], None]
    ) -> Iterator[tuple[Loaded, Looked]]:
        """What the network says of each wanted image of a batch."""
        before = time.perf_counter()
        try:
            looked = self.teacher.look(np.stack([image.pixels for image in images]))
        except UserError as error:
            timing.network += time.perf_counter() - before
            if len(images) > 1:  # find out whose fault it is
                for image in images:
                    yield from self._look([image], timing, wanted, advance)
            elif wanted(images[0].name):
                self.fail(images[0].name, str(error))
                advance()
            return
        timing.network += time.perf_counter() - before
        for number, image in enumerate(images):
            if wanted(image.name):
                timing.num_images += 1
                yield image, Looked(looked.classes[number], looked.confidence[number])

    def _finish(self, image: Loaded, looked: Looked, timing: Timing, advance: Callable[[], None]) -> None:
        before = time.perf_counter()
        self.finish(image, looked.classes, looked.confidence)
        with timing.lock:
            timing.encoding += time.perf_counter() - before
        advance()


def _batches(images: Sequence[Loaded], size: int) -> Iterator[list[Loaded]]:
    """Images of equal height and width together, at most ``size``, in their order."""
    groups: dict[tuple[int, ...], list[Loaded]] = {}
    for image in images:
        groups.setdefault(image.pixels.shape, []).append(image)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]
