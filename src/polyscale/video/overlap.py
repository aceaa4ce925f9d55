"""Reading, the network and writing at the same time, each in a thread of its own."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = ["Timing", "overlap"]

Read = TypeVar("Read")
Made = TypeVar("Made")

_AHEAD = 4
_END: Any = object()


@dataclass
class Timing:
    """Where the time of the calling thread went, in seconds."""

    total: float = 0.0
    network: float = 0.0
    reading: float = 0.0
    """Seconds of waiting for input."""
    writing: float = 0.0
    """Seconds of waiting for output."""


def overlap(
    items: Iterable[Read], make: Callable[[Read], Made], keep: Callable[[Made], None], endless: bool = False
) -> Timing:
    """Take items one by one, make something of each and keep it, all in order.

    At most a few items are held on either side of ``make``, whatever their number.

    Args:
        items: iterated in a thread.
        make: called in this thread: the network.
        keep: called in another thread.
        endless: the user ends it: a ``KeyboardInterrupt`` is the end of the items, no error.

    Returns:
        Where the time went.
    """
    timing = Timing()
    started = time.perf_counter()
    following = iter(items)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        writing: deque[Future[None]] = deque()
        try:
            reading = deque(reader.submit(next, following, _END) for _ in range(_AHEAD))
            while (item := _result(reading, timing, "reading")) is not _END:
                reading.append(reader.submit(next, following, _END))
                before = time.perf_counter()
                made = make(item)
                timing.network += time.perf_counter() - before
                if len(writing) == _AHEAD:
                    _result(writing, timing, "writing")
                writing.append(writer.submit(keep, made))
        except BaseException as error:
            if not (endless and isinstance(error, KeyboardInterrupt)):
                writer.shutdown(wait=False, cancel_futures=True)
                raise
        finally:
            reader.shutdown(wait=False, cancel_futures=True)
        while writing:
            _result(writing, timing, "writing")
    timing.total = time.perf_counter() - started
    return timing


def _result(futures: deque[Future[Any]], timing: Timing, what: str) -> Any:
    before = time.perf_counter()
    found = futures.popleft().result()
    setattr(timing, what, getattr(timing, what) + time.perf_counter() - before)
    return found
