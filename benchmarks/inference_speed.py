"""Looking at an image on a CPU: what each step from the plain network to the one that ``predict`` uses brings.

    python benchmarks/inference_speed.py [--threads 2]

EfficientNet-Lite0 with the light decoder and 19 classes, scales 0.5, 1 and 2 of 512 x 1024, and one look at 1024 x
2048. Plain is exact fusion, as a network built from its configuration does it, and argmax of the enlarged logits.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

from processes import measure_here, turn_about
from record import save, show

VARIANTS = {
    # name: kept memory, fast fusion, prepared, channels last, classes in strips
    "plain": "exact",
    "+ fast fusion": "fast",
    "+ memory kept": "fast,kept",
    "+ prepared": "fast,kept,prepared",
    "+ classes in strips": "fast,kept,prepared,strips",
    "the same, channels last": "fast,kept,prepared,strips,channels-last",
}
WORKS = {"scales": "scales 0.5, 1, 2 of 512 x 1024", "look": "one look at 1024 x 2048"}


def work_of(steps: set[str], what: str) -> Callable[[], Any]:
    """The work of one variant. Everything is imported here, because memory is set up before torch is loaded."""
    if "kept" in steps:
        from polyscale.memory import keep_freed_memory

        assert keep_freed_memory()
    import torch

    from polyscale.backbones import BackboneConfig
    from polyscale.decoders import DecoderConfig
    from polyscale.models import AttentionConfig, ModelConfig, MultiScaleConfig, build_model
    from polyscale.models.prepare import prepare_for_use
    from polyscale.multiscale import HierarchicalMultiScale
    from polyscale.strips import classify

    torch.manual_seed(0)
    config = ModelConfig(
        backbone=BackboneConfig(name="tf_efficientnet_lite0", pretrained=False),
        decoder=DecoderConfig(kind="light"),
        multiscale=MultiScaleConfig(
            attention=AttentionConfig(channels=48), fusion="fast" if "fast" in steps else "exact"
        ),
    )
    network = build_model(config, 19).eval()
    assert isinstance(network, HierarchicalMultiScale)
    if "prepared" in steps:
        network = prepare_for_use(network, channels_last="channels-last" in steps)
    generator = torch.Generator().manual_seed(1)
    size, scales = ((512, 1024), (0.5, 1.0, 2.0)) if what == "scales" else ((1024, 2048), (1.0,))
    image = torch.rand(1, 3, *size, generator=generator)

    def work() -> Any:
        with torch.inference_mode():
            if "strips" in steps:
                return classify(network.maps(image, network.choose(scales))[0], size)
            confidence, labels = network(image, scales).logits.softmax(1).max(1)
            return labels.to(torch.uint8), confidence

    return work


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of all variants, turn and turn about")
    parser.add_argument("--repeats", type=int, default=2, help="looks in each process, after one that does not count")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--works", nargs="*", default=list(WORKS), choices=list(WORKS))
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        work = work_of(set(arguments.variant.split(",")), arguments.works[0])
        print(json.dumps(measure_here(work, arguments.repeats)))
        return
    values = {}
    for what in arguments.works:
        variants = {
            name: ["--variant", steps, "--works", what, "--repeats", str(arguments.repeats)]
            for name, steps in VARIANTS.items()
        }
        measured = turn_about(__file__, variants, arguments.rounds, OMP_NUM_THREADS=str(arguments.threads))
        plain = measured["plain"]
        cpu = {name: row["user_seconds"] + row["system_seconds"] for name, row in measured.items()}
        rows = [
            [
                name,
                f"{row['seconds']:.2f}",
                f"{row['user_seconds']:.2f}",
                f"{row['system_seconds']:.2f}",
                f"{row['page_faults']:,.0f}",
                f"{row['above_idle_mb']:.0f}",
                f"{row['seconds'] / plain['seconds']:.2f}",
                f"{cpu[name] / cpu['plain']:.2f}",
                f"{row['above_idle_mb'] / plain['above_idle_mb']:.2f}",
            ]
            for name, row in measured.items()
        ]
        columns = ["", "s", "user s", "system s", "page faults", "peak MB", "time", "processor", "memory"]
        show(f"{WORKS[what]}, {arguments.threads} threads; the last three against plain", columns, rows)
        values[what] = measured
    save("inference-speed", {"threads": arguments.threads, "works": values})


if __name__ == "__main__":
    main()
