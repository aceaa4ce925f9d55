"""How time and memory of a look grow with the image, the scales, the classes and the batch, and what limits them.

    python benchmarks/growth.py [--megapixels 0.25 0.5 1 2 4 8 16 32] [--plot docs/explanation/growth.png]

EfficientNet-Lite0 with the light decoder, asked as ``predict`` asks it, each point in a process of its own. Beside each
time stand the least that this machine could need: the counted FLOPs over the rate of a large product of matrices, and
the bytes that the operations read and write over the rate of a large copy, both measured in the same process.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

from processes import measure_here, turn_about
from record import save, show

DEFAULT = {"megapixels": 0.5, "scales": "1", "classes": 19, "batch": 1}
ROWS = {
    "scales": ["1", "0.5,1", "0.5,1,2", "0.25,0.5,1,2"],
    "classes": [2, 19, 65, 150],
    "batch": [1, 2, 4, 8],
}
MEGAPIXELS = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0]


def point(megapixels: float, scales: str, classes: int, batch: int, repeats: int) -> dict[str, float]:
    """One measurement, in this process."""
    from polyscale.memory import keep_freed_memory

    keep_freed_memory()
    import torch
    from cost import Traffic
    from torch.utils.flop_counter import FlopCounterMode

    from polyscale.backbones import BackboneConfig
    from polyscale.decoders import DecoderConfig
    from polyscale.looker import Looker
    from polyscale.models import AttentionConfig, ModelConfig, MultiScaleConfig, build_model

    config = ModelConfig(
        backbone=BackboneConfig(name="tf_efficientnet_lite0", pretrained=False),
        decoder=DecoderConfig(kind="light"),
        multiscale=MultiScaleConfig(fusion="fast", attention=AttentionConfig(channels=48)),
    )
    torch.manual_seed(0)
    network = build_model(config, classes).eval()
    chosen = network.choose([float(scale) for scale in scales.split(",")])
    height = max(64, round(math.sqrt(megapixels * 2**20 / 2) / 64) * 64)
    shape = (batch, 3, height, 2 * height)
    looker, images = Looker(network), torch.rand(shape)
    measured = measure_here(lambda: looker.classify(images, chosen), repeats)
    with torch.inference_mode(), FlopCounterMode(display=False) as flops, Traffic() as traffic:
        looker._ready.to("meta").maps(torch.empty(shape, device="meta"), chosen)  # counted, not computed
    rates = machine()
    return measured | {
        "pixels": float(batch * 2 * height * height),
        "gflop": flops.get_total_flops() / 1e9,
        "gbytes": traffic.num_bytes / 1e9,
        "compute_limit_seconds": flops.get_total_flops() / rates["flops_a_second"],
        "memory_limit_seconds": traffic.num_bytes / rates["bytes_a_second"],
        **rates,
    }


def machine() -> dict[str, float]:
    """FLOPs a second of a product of matrices, bytes a second of a copy: the best of several, in processor time."""
    import torch

    a, b = torch.rand(1024, 1024), torch.rand(1024, 1024)
    source, target = torch.rand(2**25), torch.empty(2**25)

    def best(work: Any) -> float:
        taken = []
        for _ in range(5):
            before = time.process_time()
            work()
            taken.append(time.process_time() - before)
        return min(taken[1:])

    return {
        "flops_a_second": 2 * 1024**3 / best(lambda: torch.mm(a, b)),
        "bytes_a_second": 2 * source.numel() * 4 / best(lambda: target.copy_(source)),
    }


def plot(path: Path, found: dict[str, dict[str, dict[str, float]]]) -> None:
    """Time and memory over the pixels, and over the rest."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = list(found["megapixels"].values())
    pixels = [row["pixels"] / 2**20 for row in rows]
    used = [row["user_seconds"] + row["system_seconds"] for row in rows]
    left.loglog(pixels, used, "o-", label="measured")
    left.loglog(pixels, [row["compute_limit_seconds"] for row in rows], "--", label="FLOPs over peak")
    left.loglog(pixels, [row["memory_limit_seconds"] for row in rows], ":", label="bytes over bandwidth")
    left.set(xlabel="megapixels", ylabel="processor seconds", title="time of one look")
    left.legend()
    right.loglog(pixels, [row["above_idle_mb"] for row in rows], "o-")
    right.set(xlabel="megapixels", ylabel="MB above idle", title="peak memory of one look")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, nargs="*", default=MEGAPIXELS)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1, help="looks in each process, after one that does not count")
    parser.add_argument("--rows", nargs="*", default=["megapixels", *ROWS], choices=["megapixels", *ROWS])
    parser.add_argument("--plot", type=Path, help="a picture of time and memory over the pixels")
    parser.add_argument("--tiny", action="store_true", help="two small points of each; nothing is recorded")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        print(json.dumps(point(**json.loads(arguments.variant))))
        return
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in arguments.rows:
        values: list[Any] = list(arguments.megapixels) if name == "megapixels" else list(ROWS[name])
        values = values[:2] if arguments.tiny else values
        start = DEFAULT | {"repeats": arguments.repeats} | ({"megapixels": 0.02} if arguments.tiny else {})
        variants = {str(value): ["--variant", json.dumps(start | {name: value})] for value in values}
        found[name] = turn_about(__file__, variants, arguments.rounds)
        rows = []
        for value, row in found[name].items():
            processor = row["user_seconds"] + row["system_seconds"]
            limit = max(row["compute_limit_seconds"], row["memory_limit_seconds"])
            rows.append(
                [
                    value,
                    f"{row['pixels'] / 2**20:.2f}",
                    f"{processor:.2f}",
                    f"{1e9 * processor / row['pixels']:.0f}",
                    f"{row['above_idle_mb']:.0f}",
                    f"{1e6 * row['above_idle_mb'] / row['pixels']:.0f}",
                    f"{row['compute_limit_seconds']:.2f}",
                    f"{row['memory_limit_seconds']:.2f}",
                    f"{processor / limit:.1f}",
                ]
            )
        columns = [name, "megapixels", "processor s", "ns a pixel", "peak MB", "bytes a pixel"]
        show(f"growth with {name}", [*columns, "s by FLOPs", "s by bytes", "over the larger"], rows)
    if arguments.plot is not None and "megapixels" in found:
        plot(arguments.plot, found)
    if not arguments.tiny:
        save("growth", {"start": DEFAULT, "found": found})


if __name__ == "__main__":
    main()
