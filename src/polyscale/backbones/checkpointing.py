"""Batch normalisation under gradient checkpointing.

Checkpointing runs a stage's forward a second time, inside the backward pass, and batch norm would then count the same
batch twice in its running statistics. Hooks hold the statistics still in that second run, so that training with and
without checkpointing gives the same network.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["hold_statistics_when_recomputing"]


def hold_statistics_when_recomputing(module: nn.Module) -> None:
    """Let every batch norm inside ``module`` update its running statistics in the forward pass only.

    Args:
        module: gives a tensor or a list of tensors. Its backward pass begins when one of them gets its gradient, and
            has ended when the module is called again.
    """
    backward = _BackwardPass()
    module.register_forward_pre_hook(backward.ends)
    module.register_forward_hook(backward.awaits)
    for norm in module.modules():
        if isinstance(norm, _BatchNorm) and norm.track_running_stats:
            norm.register_forward_pre_hook(backward.hold)
            norm.register_forward_hook(_release, always_call=True)


class _BackwardPass:
    """Whether the backward pass of a module is under way."""

    def __init__(self) -> None:
        self.running = False

    def ends(self, *_: Any) -> None:
        self.running = False

    def awaits(self, _module: nn.Module, _inputs: Any, outputs: Any) -> None:
        for output in [outputs] if isinstance(outputs, Tensor) else outputs:
            if output.requires_grad:
                output.register_hook(self.begins)

    def begins(self, _gradient: Tensor) -> None:
        self.running = True

    def hold(self, norm: _BatchNorm, _: Any) -> None:
        if norm.training and self.running:
            norm._momentum_before, norm.momentum = norm.momentum, 0.0  # type: ignore[assignment]


def _release(norm: _BatchNorm, *_: Any) -> None:
    if "_momentum_before" in norm.__dict__:
        norm.momentum = norm.__dict__.pop("_momentum_before")
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.sub_(1)
