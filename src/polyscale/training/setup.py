"""Builds everything a run needs from its configuration: checked data, network, optimiser, objective, batches."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from polyscale.backbones.checkpointing import hold_statistics_when_recomputing
from polyscale.crops import MixConfig, TrainingData, open_training_data
from polyscale.crops.loader import BatchPlan
from polyscale.data import SegmentationData, check_files, open_data
from polyscale.errors import UserError
from polyscale.evaluation.checks import check_channels, check_classes
from polyscale.losses import Objective
from polyscale.models import build_model
from polyscale.models.start import start_from
from polyscale.multiscale import MultiScale
from polyscale.training.config import ExperimentConfig
from polyscale.training.listener import Listener
from polyscale.training.optimizer import build_optimizer, freeze_batchnorm, moving_average
from polyscale.training.sampling import build_sampler, class_weights, remembered_weights

__all__ = ["Parts", "freeze_unused", "prepare", "synchronise_batchnorm"]

Result = TypeVar("Result")


@dataclass
class Parts:
    """What a run works with, on its device."""

    train_data: TrainingData
    val_data: SegmentationData | None
    model: MultiScale
    optimizer: torch.optim.Optimizer
    objective: Objective
    plan: BatchPlan
    average: AveragedModel | None
    """Moving average of the model's weights, where the recipe asks for it."""


def prepare(config: ExperimentConfig, out: Path, begun: bool, accelerator: Accelerator, listener: Listener) -> Parts:
    """Build all parts. Every process calls it; files are checked, and class positions found, by the main one first.

    Raises:
        UserError: data, weights or settings that cannot be used.
    """

    def working(what: str) -> Callable[[int, int], None]:
        return lambda done, total: listener.working(what, done, total)

    settings = config.training
    train_data, val_data = _open_sets(config, listener)
    torch.manual_seed(config.seed)
    model = build_model(config.model, train_data.label_space)  # before the files: a wrong name is told at once
    for name, data in [*train_data.parts.items(), *([] if val_data is None else [("validation", val_data)])]:
        check_channels(model, data, name)
    if settings.start_from is not None and not begun:
        start = start_from(model, settings.start_from)
        listener.said(f"{start.num_taken} tensors start from {settings.start_from}, {len(start.new)} are new")
    if settings.check_data:

        def check() -> None:
            parts = [*train_data.parts.items(), *([] if val_data is None else [("validation", val_data)])]
            for name, data in parts:
                check_files(data, working(f"checking {name} images"), cache_dir=out)

        _by_the_first(accelerator, check)
    if settings.freeze_batchnorm:
        freeze_batchnorm(model)
    freeze_unused(model)
    optimizer = build_optimizer(model, settings.optimizer)
    counting = working("counting pixels")

    def weigh() -> Tensor | None:
        return remembered_weights(
            out / "class_weights.json", lambda: class_weights(config.loss, train_data, counting), begun
        )

    weights = _by_the_first(accelerator, weigh)
    objective = Objective(config.loss, weights)
    with accelerator.main_process_first():  # the others read its cache
        sampler = build_sampler(config, train_data, out, working("finding classes"))
    plan = BatchPlan(
        sampler,
        settings.batch_size,
        settings.accumulate,
        settings.epochs,
        accelerator.process_index,
        accelerator.num_processes,
    )
    if (mixed := train_data.describe(sampler.epoch_length)) is not None:
        listener.said(mixed)
    if settings.sync_batchnorm and accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        synchronise_batchnorm(model)
    model = model.to(accelerator.device)
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last)
    average = None if settings.ema_decay is None else moving_average(model, settings.ema_decay)
    return Parts(train_data, val_data, model, optimizer, objective.to(accelerator.device), plan, average)


def freeze_unused(model: MultiScale) -> None:
    """Freeze parameters that no loss reaches, such as those of HRNet's branches that a decoder does not read.

    Processes that train together would wait for their gradients.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()  # one small image is enough, and batch norms keep their statistics
    fused = model(torch.zeros(1, model.in_channels, 33, 33), model.train_scales)
    outputs = [fused.logits, fused.aux, *(view.logits for view in fused.views.values())]
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    total = torch.stack([output.sum() for output in outputs if output is not None]).sum()
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
    for module, training in modes:
        module.training = training


def synchronise_batchnorm(model: MultiScale) -> None:
    """Let every batch norm of the network take its statistics over all processes; parameters stay the same objects."""
    # Not PyTorch's own conversion, which drops the activation that timm's norm layers hold.
    convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    if model.config.backbone.checkpointing:  # what the old norms were told belongs to the new ones too
        hold_statistics_when_recomputing(cast("nn.Module", model.segmenter.backbone))


def _open_sets(config: ExperimentConfig, listener: Listener) -> tuple[TrainingData, SegmentationData | None]:
    """Training data and, where there are any, validation data."""
    chosen = config.data.train
    with _named("data.train" if not isinstance(chosen, MixConfig) else ""):
        training = open_training_data(chosen)
    _check_labels("training", training)
    if config.data.val is None:
        return training, None
    with _named("data.val"):
        validation = open_data(config.data.val)
    _check_labels("validation", validation)
    check_classes(training.label_space, validation.label_space)
    seen = {item.image for item in training.items}
    number = sum(item.image in seen for item in validation.items)
    if number:
        listener.said(f"{number} of {len(validation)} validation images are training images too: the scores flatter")
    return training, validation


@contextlib.contextmanager
def _named(key: str) -> Iterator[None]:
    """Errors inside say which key of the recipe they are about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{key}: {error}" if key else str(error)) from None


def _check_labels(name: str, data: SegmentationData) -> None:
    """Check that every image has a mask, before training rather than when the first one without is drawn."""
    without = [item.name for item in data.items if item.mask is None]
    if without:
        raise UserError(
            f"{len(without)} of {len(data)} {name} images have no mask, such as {without[0]}; training needs one "
            "for each: add them, or leave the images out with exclude"
        )


def _by_the_first(accelerator: Accelerator, work: Callable[[], Result]) -> Result:
    """What ``work`` gives the main process, in all processes; all of them raise what it finds wrong."""
    box: list[Any] = [None, ""]
    if accelerator.is_main_process:
        try:
            box[0] = work()
        except UserError as error:
            box[1] = str(error)
    if accelerator.num_processes > 1:
        torch.distributed.broadcast_object_list(box, src=0)
    if box[1]:
        raise UserError(box[1])
    result: Result = box[0]
    return result
