"""A training step on a CPU: the pair of scales against one scale, and with activations computed again.

    python benchmarks/step_speed.py

EfficientNet-Lite0 with the light decoder and 19 classes as ``configs/folder.yaml`` trains it, 8 crops of 256 x 320.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from processes import measure_here, turn_about
from record import save, show

VARIANTS = {
    "one scale": "single",
    "pair": "pair",
    "pair, checkpointing": "pair,checkpointing",
    "one scale, memory not kept": "single,plain",
    "pair, memory not kept": "pair,plain",
}
CROP, CROPS, CLASSES = (256, 320), 8, 19


def work_of(steps: set[str]) -> Callable[[], Any]:
    """One step of a variant; memory is set up before torch is loaded."""
    if "plain" not in steps:
        from polyscale.memory import keep_freed_memory

        assert keep_freed_memory()
    import torch

    from polyscale.config import load_config
    from polyscale.losses import Objective
    from polyscale.models import build_model
    from polyscale.training import ExperimentConfig

    recipe = Path(__file__).parents[1] / "configs" / "folder.yaml"
    method = "single" if "single" in steps else "hierarchical"
    changes = [
        "model.backbone.pretrained=false",
        f"model.backbone.checkpointing={str('checkpointing' in steps).lower()}",
        f"model.multiscale.method={method}",
        "validation.scales=[]",
        "validation.final=false",
        "loss.class_weights=none",
    ]
    config = load_config(ExperimentConfig, [recipe], changes)
    torch.manual_seed(0)
    network = build_model(config.model, CLASSES).train()
    if config.training.channels_last:
        network = network.to(memory_format=torch.channels_last)
    objective = Objective(config.loss)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    images = torch.rand(CROPS, 3, *CROP)
    if config.training.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    # Blocks of one class, as in real labels: the boundary of the classes is short.
    blocks = torch.randint(0, CLASSES, (CROPS, CROP[0] // 16, CROP[1] // 16))
    labels = blocks.repeat_interleave(16, 1).repeat_interleave(16, 2)

    def work() -> None:
        objective(network(images, network.train_scales), labels)["total"].backward()
        optimizer.step()
        optimizer.zero_grad()

    return work


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="of all variants, turn and turn about")
    parser.add_argument("--repeats", type=int, default=3, help="steps in each process, after one that does not count")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        print(json.dumps(measure_here(work_of(set(arguments.variant.split(","))), arguments.repeats)))
        return
    variants = {name: ["--variant", steps, "--repeats", str(arguments.repeats)] for name, steps in VARIANTS.items()}
    measured = turn_about(__file__, variants, arguments.rounds)
    single = measured["one scale"]

    def processor(row: dict[str, float]) -> float:
        return row["user_seconds"] + row["system_seconds"]

    rows = [
        [
            name,
            f"{row['seconds']:.2f}",
            f"{row['user_seconds']:.2f}",
            f"{row['system_seconds']:.2f}",
            f"{row['page_faults']:,.0f}",
            f"{row['above_idle_mb']:.0f}",
            f"{processor(row) / processor(single):.2f}",
            f"{row['above_idle_mb'] / single['above_idle_mb']:.2f}",
        ]
        for name, row in measured.items()
    ]
    columns = ["", "s", "user s", "system s", "page faults", "peak MB", "processor", "memory"]
    show("a training step; the last two against one scale", columns, rows)
    save("step-speed", {"crops": CROPS, "crop": list(CROP), "steps": measured})


if __name__ == "__main__":
    main()
