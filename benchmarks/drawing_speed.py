"""How many drawn streets one core makes a second: images with labels, and coarse labels of them.

The time of each scene is taken alone and the median counts, because other work on the machine only ever makes a scene
slower. Beside it stands the same in processor time, which such work touches less.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

# Before numpy is imported: one core is one core.
os.environ["OMP_NUM_THREADS"] = "1"

from record import save, show

from polyscale.data.streets import coarse_labels, draw_scene

SIZES = ((256, 512), (512, 1024))


def rates(work: Callable[[int], object], count: int) -> dict[str, float]:
    """Scenes a second, by the clock and by processor time, of ``work(index)``; medians over ``count``."""
    work(0)
    clock, processor = [], []
    for index in range(count):
        before, used = time.perf_counter(), time.process_time()
        work(index)
        clock.append(time.perf_counter() - before)
        processor.append(time.process_time() - used)
    return {"images_a_second": 1 / median(clock), "images_a_processor_second": 1 / median(processor)}


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="scenes of each size")
    parser.add_argument("--out", type=Path, default=None, help="folder of the result; by default benchmarks/results")
    arguments = parser.parse_args()
    rows, values = [], []
    for size in SIZES:
        labels = [draw_scene(0, index, size).labels for index in range(20)]
        works: dict[str, Callable[[int], object]] = {
            "image and labels": lambda index, size=size: draw_scene(0, index, size),
            "coarse labels": lambda index, labels=labels: coarse_labels(labels[index % len(labels)], seed=index),
        }
        for name, work in works.items():
            measured = rates(work, arguments.count)
            values.append({"what": name, "size": list(size), "count": arguments.count, **measured})
            rows.append([name, f"{size[0]} x {size[1]}", *(f"{rate:.0f}" for rate in measured.values())])
    show("drawn streets on one core", ["what", "size", "a second", "a processor second"], rows)
    save("drawing_speed", {"rates": values}, arguments.out)


if __name__ == "__main__":
    main()
