"""ONNX Runtime against PyTorch on the same processor with as many threads: the network that ships, by one looker.

    python benchmarks/export_speed.py [PHOTO …]

Both take turns (A B A B) and give classes, confidence and the weight of each scale, as ``predict`` uses them. PyTorch
runs the network as prepared for use, with folded batch norms. Without photos a drawn street is shown.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from record import save, show

import polyscale
from polyscale.data.images import read_image
from polyscale.data.streets import draw_scene
from polyscale.export import export_network
from polyscale.memory import keep_freed_memory


def milliseconds(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median of each by the clock; one round goes before without being counted."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats + 1):
        for name, work in works.items():
            before = time.perf_counter()
            work()
            taken[name].append(1000 * (time.perf_counter() - before))
    return {name: median(values[1:]) for name, values in taken.items()}


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="*", type=Path)
    parser.add_argument("--network", default="camvid-lite0")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--file", type=Path, help="an exported file; by default it is made")
    arguments = parser.parse_args()
    keep_freed_memory()
    images = [read_image(path) for path in arguments.photos] or [draw_scene(0, 0, (360, 480)).image]
    batch = [torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None].float() / 255 for x in images]
    network = polyscale.load(arguments.network, "cpu")
    with tempfile.TemporaryDirectory() as folder:
        file = arguments.file
        if file is None:
            file = export_network(network.model, network.label_space, Path(folder) / "net.onnx", verify=False).path
        rows, values = [], []
        for threads in arguments.threads:
            torch.set_num_threads(threads)  # ONNX Runtime's session takes as many
            lookers = {"torch": network.looker, "onnx": polyscale.load(file, "cpu").looker}
            works = {
                name: (lambda looker=looker: [looker.classify(x) for x in batch]) for name, looker in lookers.items()
            }
            taken = milliseconds(works, arguments.repeats)
            ratios = {name: taken[name] / taken["torch"] for name in taken}
            values.append({"threads": threads, "milliseconds": taken, "over_torch": ratios})
            rows += [[threads, name, f"{taken[name] / len(batch):.0f}", f"{ratios[name]:.2f}"] for name in taken]
    show("An image", ["threads", "runtime", "ms", "times torch"], rows)
    sizes = sorted({f"{x.shape[0]}x{x.shape[1]}" for x in images})
    save("export_speed", {"network": arguments.network, "sizes": sizes, "images": len(batch), "results": values})


if __name__ == "__main__":
    main()
