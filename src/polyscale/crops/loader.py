"""Batches of crops whose every random draw comes from (seed, epoch, position), so that a run can start at any step.

One loader serves the whole run. The batch sampler walks through the epochs itself, so loader processes
live on, and a resumed run simply starts its walk at the step it had reached. Samplers know rank and world size; nothing
else shards again.
"""

import os
import signal
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from polyscale.crops import AugmentConfig, Draw, EpochSampler, augment, augment_planes, open_training_data, shard
from polyscale.data import SegmentationData
from polyscale.data.left_out import stay_silent
from polyscale.errors import UserError
from polyscale.labels import IGNORE

__all__ = ["Batch", "BatchPlan", "Key", "TrainingCrops", "build_loader", "number_of_workers"]


class Key(NamedTuple):
    """Which crop: its epoch and its draw, whose position in the epoch seeds the augmentation."""

    epoch: int
    draw: Draw


class Batch(NamedTuple):
    """Crops of one micro-step on one process."""

    images: Tensor
    """(N, 3, H, W) float32 RGB in [0, 1]."""
    labels: Tensor
    """(N, H, W) int64 train ids, ``IGNORE`` where nothing is known."""
    weights: Tensor | None = None
    """float32 weights of the images (N,), or of their pixels (N, H, W); None where all count alike."""

    def to(self, device: torch.device, channels_last: bool = False) -> "Batch":
        """The batch on another device, its images in the memory order that the network computes in."""
        images = self.images.to(device, non_blocking=True)
        if channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        weights = None if self.weights is None else self.weights.to(device, non_blocking=True)
        return Batch(images, self.labels.to(device, non_blocking=True), weights)


class Crop(NamedTuple):
    """One crop, as a batch has N of."""

    image: Tensor
    labels: Tensor
    weights: Tensor | None


class TrainingCrops(Dataset[Crop]):
    """Augmented crops of a data set, addressed by ``Key``."""

    def __init__(self, data: SegmentationData, config: AugmentConfig, seed: int) -> None:
        self.data = open_training_data(data)
        self.config = config
        self.seed = seed

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: Key) -> Crop:
        """One crop: image (3, H, W), labels (H, W), and in a weighted mix a weight () or weights (H, W).

        Raises:
            UserError: the image, its mask or its confidence map cannot be read.
        """
        sample = self.data.read(key.draw.index)
        if sample.labels is None:
            raise UserError(f"{sample.name} has no mask; training needs one for each image")
        rng = np.random.default_rng([self.seed, key.epoch, key.draw.position])
        data, index, centre = self.data, key.draw.index, key.draw.centre
        factor, levels, table = data.read_weights(index, sample.labels.shape)
        if levels is None or table is None:
            image, labels = augment(sample.image, sample.labels, self.config, rng, centre)
            weights = torch.full(labels.shape if data.weighting == "pixel" else (), factor)
            return Crop(image, labels, None if data.weighting == "none" else weights)
        planes = [(sample.labels, IGNORE), (levels, 0)]
        image, (target, seen) = augment_planes(sample.image, planes, self.config, rng, centre)
        return Crop(image, torch.from_numpy(target.astype(np.int64, order="C")), torch.from_numpy(factor * table[seen]))


class BatchPlan:
    """All micro-batches of one process from ``first_step`` to the end of the run.

    Every optimiser step takes ``accumulate`` micro-batches; the draws at the end of an epoch that do not fill a global
    batch are left out, as other draws are in the next epoch.

    Args:
        sampler: draws of each epoch.
        batch_size: crops a process and micro-step.
        accumulate: micro-steps a step.
        epochs: number of epochs.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(
        self, sampler: EpochSampler, batch_size: int, accumulate: int, epochs: int, rank: int, world_size: int
    ) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.epochs = epochs
        self.rank = rank
        self.world_size = world_size
        self.first_step = 0
        self.global_batch = batch_size * accumulate * world_size
        self.steps_per_epoch = sampler.epoch_length // self.global_batch
        if self.steps_per_epoch == 0:
            raise UserError(
                f"an epoch of {sampler.epoch_length} crops does not fill one global batch of {self.global_batch}; "
                "lower training.batch_size or set training.epoch_length"
            )

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    def __len__(self) -> int:
        return (self.total_steps - self.first_step) * self.accumulate

    def __iter__(self) -> Iterator[list[Key]]:
        first_epoch, skipped = divmod(self.first_step, self.steps_per_epoch)
        for epoch in range(first_epoch, self.epochs):
            batches = shard(self.sampler.epoch(epoch), self.batch_size, self.rank, self.world_size)
            start = skipped * self.accumulate if epoch == first_epoch else 0
            for batch in batches[start : self.steps_per_epoch * self.accumulate]:
                yield [Key(epoch, draw) for draw in batch]


def build_loader(crops: TrainingCrops, plan: BatchPlan, num_workers: int, pin_memory: bool) -> DataLoader[Batch]:
    """The loader of the whole run; an iteration starts at ``plan.first_step``."""
    return DataLoader(
        crops,  # type: ignore[arg-type]  # its items are crops, which the collate function makes a Batch of
        batch_sampler=plan,
        num_workers=num_workers,
        collate_fn=_collate,
        worker_init_fn=_prepare_worker,
        pin_memory=pin_memory,
        prefetch_factor=4 if num_workers else None,
    )


def _collate(crops: list[Crop]) -> Batch:
    weights = [crop.weights for crop in crops if crop.weights is not None]
    return Batch(
        torch.stack([crop.image for crop in crops]),
        torch.stack([crop.labels for crop in crops]),
        torch.stack(weights) if weights else None,
    )


def _prepare_worker(worker: int) -> None:
    if worker:
        stay_silent()  # one process warns for all
    # Ctrl-C, and SIGTERM from Slurm or a container, reach the whole group of processes. A loader that died of it would
    # take the step with it that the main process still finishes before it saves. It ends with the main process.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def number_of_workers(asked: int | None, processes_here: int) -> int:
    """Loader processes for this training process: the number asked for, else its cores less one, at most 8."""
    if asked is not None:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, min(8, cores // max(1, processes_here) - 1))
