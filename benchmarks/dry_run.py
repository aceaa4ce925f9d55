"""Builds the network of every recipe in ``configs/`` and trains it for one step, at a tiny crop of drawn streets.

What a recipe says of networks, losses, optimisers and augmentation is real; its data, its pretrained weights and its
crop are not. ``make dry-run`` runs it; it exits with 1 where a recipe fails.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

from polyscale.config import load_config
from polyscale.crops.transforms import augment
from polyscale.data import StreetsConfig, open_data
from polyscale.data.known_spaces import known_space
from polyscale.losses import Objective
from polyscale.models import build_model
from polyscale.training import ExperimentConfig
from polyscale.training.optimizer import build_optimizer

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
CROP = (64, 128)
# Second files, by the recipe that they are put on top of.
ADDITIONS = {
    "holdout.yaml": "lite0.yaml",
    "student.yaml": "folder.yaml",
    "plain.yaml": "lite0.yaml",
    "person.yaml": "lite0.yaml",
}


def recipes(folder: Path = CONFIGS) -> list[list[Path]]:
    """The files of each recipe in a folder, in the order in which they are read."""
    files = sorted(folder.rglob("*.yaml"))
    return [[path.parent / ADDITIONS[path.name], path] if path.name in ADDITIONS else [path] for path in files]


def one_step(files: list[Path]) -> float:
    """Train the network of a recipe for one step and give the loss."""
    config = load_config(ExperimentConfig, files)
    backbone = config.model.backbone.model_copy(update={"pretrained": False})
    streets = open_data(StreetsConfig(count=2, size=(CROP[0] * 2, CROP[1] * 2)))
    space = getattr(config.data.val, "label_space", None)
    num_classes = (streets.label_space if space is None else known_space(str(space))).num_classes
    torch.manual_seed(config.seed)
    model = build_model(config.model.model_copy(update={"backbone": backbone}), num_classes).train()
    objective = Objective(config.loss.model_copy(update={"class_weights": "none"}))
    optimizer = build_optimizer(model, config.training.optimizer)
    settings = config.augment.model_copy(update={"crop": CROP})
    samples = [streets.read(index) for index in range(2)]
    pairs = [
        augment(sample.image, sample.labels, settings, np.random.default_rng(index))
        for index, sample in enumerate(samples)
        if sample.labels is not None
    ]
    images, labels = (torch.stack(list(planes)) for planes in zip(*pairs, strict=True))
    loss = objective(model(images, model.train_scales), labels)["total"]
    loss.backward()
    optimizer.step()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    if not all(bool(torch.isfinite(gradient).all()) for gradient in [loss.detach(), *gradients]):
        raise FloatingPointError("the loss or a gradient is not finite")
    return float(loss.detach())


def main() -> int:
    """One line a recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=CONFIGS)
    folder = parser.parse_args().folder
    failed = 0
    for files in recipes(folder):
        start = time.perf_counter()
        name = files[-1].relative_to(folder)
        try:
            loss = one_step(files)
        except Exception as error:  # a recipe may fail in any way; the next one is still worth its step
            failed += 1
            print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
        else:
            print(f"ok     {name}: loss {loss:.3f} after {time.perf_counter() - start:.1f} s", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
