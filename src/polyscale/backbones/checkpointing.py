"""Batch normalisation under gradient checkpointing.

Checkpointing runs a stage's forward a second time, inside the backward pass, and batch norm would then
count the same batch twice in its running statistics. Two hooks hold the statistics still in that second run, so that
training with and without checkpointing gives the same network.
"""

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["hold_statistics_when_recomputing"]


def hold_statistics_when_recomputing(module: nn.Module) -> None:
    """Let every batch norm inside ``module`` update its running statistics in the forward pass only."""
    for norm in module.modules():
        if isinstance(norm, _BatchNorm) and norm.track_running_stats:
            norm.register_forward_pre_hook(_hold)
            norm.register_forward_hook(_release, always_call=True)


def _recomputing() -> bool:
    # Inside a backward pass the autograd engine runs a graph task; outside it there is none.
    return bool(torch._C._current_graph_task_id() != -1)


def _hold(norm: _BatchNorm, _: Any) -> None:
    if norm.training and _recomputing():
        norm._momentum_before, norm.momentum = norm.momentum, 0.0  # type: ignore[assignment]


def _release(norm: _BatchNorm, *_: Any) -> None:
    if "_momentum_before" in norm.__dict__:
        norm.momentum = norm.__dict__.pop("_momentum_before")
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.sub_(1)
