"""Parameter groups by name, learning rates as pure functions of the step, and the moving average of weights."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from polyscale.multiscale import MultiScale
from polyscale.training.config import OptimizerConfig, ScheduleConfig

__all__ = ["build_optimizer", "freeze_batchnorm", "learning_rate_factor", "moving_average", "set_learning_rates"]


def build_optimizer(model: MultiScale, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Optimiser with one named group for each of backbone, decoder, attention, with and without weight decay.

    Every group carries ``base_lr``; ``set_learning_rates`` sets each group's rate from it at every step. Parameters
    with a learning rate of 0 are frozen rather than listed.
    """
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    factors = {"backbone": config.backbone_lr_factor, "attention": config.attention_lr_factor, "decoder": 1.0}
    part_of = model.part_of()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part = part_of[name]
        if factors[part] == 0:
            parameter.requires_grad_(False)
            continue
        decayed = config.decay_norms or parameter.ndim > 1
        groups.setdefault((part, decayed), []).append(parameter)
    listed: list[dict[str, Any]] = [
        {
            "params": parameters,
            "name": part if decayed else f"{part}, no decay",
            "lr": config.lr * factors[part],
            "base_lr": config.lr * factors[part],
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for (part, decayed), parameters in sorted(groups.items(), key=lambda item: (item[0][0], not item[0][1]))
    ]
    if config.kind == "sgd":
        return torch.optim.SGD(listed, lr=config.lr, momentum=config.momentum)
    return torch.optim.AdamW(listed, lr=config.lr, betas=config.betas)


def learning_rate_factor(config: ScheduleConfig, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """The factor of the base learning rate at ``step`` (0 .. total_steps - 1), in (0, 1]."""
    at = step - step % steps_per_epoch if config.per_epoch else step
    progress = min(at / total_steps, 1.0)
    match config.kind:
        case "poly":
            factor = float((1 - progress) ** config.power)
        case "cosine":
            factor = 0.5 * (1 + math.cos(math.pi * progress))
        case "constant":
            factor = 1.0
    return factor * min(1.0, (step + 1) / (config.warmup_steps + 1))


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to its base times ``factor``."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of weights and statistics.

    The decay grows from 0.1 as (1 + n) / (10 + n) up to ``decay``.
    """

    @torch.no_grad()
    def update(averages: Any, values: Any, number: Tensor | int) -> None:
        n = float(number)
        weight = 1 - min(decay, (1 + n) / (10 + n))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value.to(average.device, average.dtype), weight)
            else:
                average.copy_(value)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


def freeze_batchnorm(model: nn.Module) -> None:
    """Keep every batch norm at its stored statistics and weights; to be called after each ``model.train()``."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
