"""Facts of the labels that training needs beforehand: the classes' weights and positions."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from polyscale.crops import EpochSampler, open_training_data
from polyscale.data import SegmentationData
from polyscale.data.parallel import in_parallel, pixels_of
from polyscale.errors import UserError
from polyscale.files import write_atomically
from polyscale.losses import LossConfig, inverse_log_weights
from polyscale.training.config import ExperimentConfig

__all__ = ["build_sampler", "class_weights", "pixel_counts", "remembered_weights"]


def pixel_counts(data: SegmentationData, progress: Callable[[int, int], None] | None = None) -> Tensor:
    """Labelled pixels of each class over the whole set, (C,) int64; of a mix, float64, as often as it draws them."""
    data = open_training_data(data)
    importance = data.importance
    total = np.zeros(256, dtype=np.int64 if importance is None else np.float64)

    def count(index: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        labels = data.read_labels(index)
        if labels is None:
            raise UserError(f"{data.items[index].name} has no mask; training needs one for each image")
        return np.bincount(labels.reshape(-1), minlength=256)

    def pixels(index: int) -> int:
        return pixels_of(data.items[index].mask)

    for index, counts in enumerate(in_parallel(range(len(data)), count, None, progress, pixels)):
        total += counts if importance is None else counts * importance[index]
    return torch.from_numpy(total[: data.label_space.num_classes])


def class_weights(
    config: LossConfig, data: SegmentationData, progress: Callable[[int, int], None] | None = None
) -> Tensor | None:
    """Weights of the classes, (C,), or None where the loss asks for none.

    Raises:
        UserError: a list of another length than there are classes.
    """
    asked = config.class_weights
    if asked == "none":
        return None
    if asked == "inverse-log":
        return inverse_log_weights(pixel_counts(data, progress))
    if len(asked) != data.label_space.num_classes:
        raise UserError(
            f"loss.class_weights has {len(asked)} numbers for {data.label_space.num_classes} classes "
            f"({', '.join(data.label_space.names)})"
        )
    return torch.tensor([float(weight) for weight in asked])


def remembered_weights(path: Path, compute: Callable[[], Tensor | None], begun: bool) -> Tensor | None:
    """The weights with which a run began, so that one that continues need not count again.

    Args:
        path: JSON file in the run's folder.
        compute: gives them where there is no such file yet.
        begun: the run continues.
    """
    if begun:
        try:
            return torch.tensor([float(weight) for weight in json.loads(path.read_text(encoding="ascii"))])
        except (OSError, ValueError, TypeError, RecursionError):
            pass  # an older run's folder, or a damaged file
    weights = compute()
    if weights is not None:
        with write_atomically(path) as temporary:
            temporary.write_text(json.dumps(weights.tolist()) + "\n", encoding="ascii")
    return weights


def build_sampler(
    config: ExperimentConfig, data: SegmentationData, cache: Path, progress: Callable[[int, int], None] | None = None
) -> EpochSampler:
    """The draws of each epoch, class-uniform where the recipe asks for it; class positions are cached in ``cache``."""
    sampling = config.sampling
    drawn = open_training_data(data)
    centroids = None
    if sampling.fraction > 0:
        centroids = drawn.centroids(sampling.tile, cache, min(8, os.cpu_count() or 1), progress)
    length = config.training.epoch_length or drawn.epoch_length
    return EpochSampler(len(drawn), config.seed, centroids, sampling, length, drawn.shares)
