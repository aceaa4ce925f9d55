"""From a configuration to everything a run needs: data that was checked, network, optimiser, objective, batches."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.optim.swa_utils import AveragedModel

from polyscale.config import UserError
from polyscale.data import SegmentationData, check_files, open_data
from polyscale.losses import Objective
from polyscale.models import MultiScaleModel, build_model
from polyscale.training.config import ExperimentConfig
from polyscale.training.listener import Listener
from polyscale.training.loader import BatchPlan
from polyscale.training.optimizer import build_optimizer, freeze_batchnorm, moving_average
from polyscale.training.sampling import build_sampler, class_weights

__all__ = ["Parts", "prepare"]


@dataclass
class Parts:
    """What a run works with, on its device."""

    train_data: SegmentationData
    val_data: SegmentationData | None
    model: MultiScaleModel
    optimizer: torch.optim.Optimizer
    objective: Objective
    plan: BatchPlan
    average: AveragedModel | None
    """Moving average of the model's weights, where the recipe asks for it."""


def prepare(config: ExperimentConfig, out: Path, accelerator: Accelerator, listener: Listener) -> Parts:
    """Build all parts. Every process calls it; files are checked, and class positions found, by the main one first.

    Raises:
        UserError: data, weights or settings that cannot be used.
    """

    def working(what: str) -> Callable[[int, int], None]:
        return lambda done, total: listener.working(what, done, total)

    settings = config.training
    train_data = open_data(config.data.train)
    val_data = None if config.data.val is None else open_data(config.data.val)
    if settings.check_data:
        sets = {"training": train_data} if val_data is None else {"training": train_data, "validation": val_data}
        _check(sets, out, accelerator, working)
    torch.manual_seed(config.seed)
    model = build_model(config.model, train_data.label_space)
    if settings.freeze_batchnorm:
        freeze_batchnorm(model)
    optimizer = build_optimizer(model, settings.optimizer)
    objective = Objective(config.loss, class_weights(config.loss, train_data, working("counting pixels")))
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
    if settings.sync_batchnorm and accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    model = model.to(accelerator.device)
    if settings.channels_last:
        model = model.to(memory_format=torch.channels_last)
    average = None if settings.ema_decay is None else moving_average(model, settings.ema_decay)
    return Parts(train_data, val_data, model, optimizer, objective.to(accelerator.device), plan, average)


def _check(
    sets: dict[str, SegmentationData],
    out: Path,
    accelerator: Accelerator,
    working: Callable[[str], Callable[[int, int], None]],
) -> None:
    """Read every file once, on the main process; all processes raise what it finds."""
    problem = ""
    if accelerator.is_main_process:
        try:
            for name, data in sets.items():
                check_files(data, working(f"checking {name} images"), cache_dir=out)
        except UserError as error:
            problem = str(error)
    if accelerator.num_processes > 1:
        box = [problem]
        torch.distributed.broadcast_object_list(box, src=0)
        problem = box[0]
    if problem:
        raise UserError(problem)
