"""What attention over views costs in use: the shipped networks against the average of the same views, turn about.

    python benchmarks/attention_cost.py

Times are the processor's, from pixels in memory to classes, confidence and weights at the image's size.
"""

import argparse
import time
from statistics import median

import torch
from record import save, show

import polyscale
from polyscale.baselines import AveragePooling
from polyscale.looker import Looker
from polyscale.memory import keep_freed_memory

NETWORK = "camvid-lite0"
SCALES = (0.5, 1.0, 2.0)
SIZES = ((360, 480), (720, 960))


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    keep_freed_memory()
    rows = []
    attention = polyscale.load(NETWORK, device="cpu").looker
    average = Looker(AveragePooling(attention.model.segmenter, SCALES), "cpu")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for height, width in SIZES:
            image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
            seconds: dict[Looker, list[float]] = {average: [], attention: []}
            for _ in range(rounds + 1):  # the first of each warms up
                for looker, taken in seconds.items():
                    before = time.process_time()
                    looker.classify(image, SCALES)
                    taken.append(time.process_time() - before)
            mean, learnt = (median(taken[1:]) for taken in seconds.values())
            rows.append({"network": NETWORK, "threads": threads, "size": f"{width} x {height}"})
            rows[-1] |= {"average_seconds": mean, "attention_seconds": learnt, "ratio": learnt / mean}
    cells = [[f"{cell:.3f}" if isinstance(cell, float) else cell for cell in row.values()] for row in rows]
    show("attention over views against the average of the same views", list(rows[0]), cells)
    save("attention-cost", {"rows": rows, "rounds": rounds})


if __name__ == "__main__":
    main()
