"""One optimiser step: micro-steps, the check that everything is finite, the update."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from polyscale.crops.loader import Batch
from polyscale.training.config import ExperimentConfig
from polyscale.training.failure import save_failure
from polyscale.training.optimizer import freeze_batchnorm
from polyscale.training.setup import Parts

__all__ = ["OptimizerStep"]


class OptimizerStep:
    """Makes the steps of a run.

    Args:
        config: of the run.
        out: its folder, where a step that fails is kept.
        parts: of the run; the model as it is without accelerate.
        accelerator: of the run.
        network: the model as accelerate prepared it.
        optimizer: as accelerate prepared it.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        out: Path,
        parts: Parts,
        accelerator: Accelerator,
        network: nn.Module,
        optimizer: AcceleratedOptimizer,
    ) -> None:
        self.config, self.settings, self.out, self.parts = config, config.training, out, parts
        self.accelerator, self.network, self.optimizer = accelerator, network, optimizer

    def __call__(self, step: int, batches: Iterator[Batch]) -> dict[str, Tensor]:
        """Make step number ``step``; the mean of each loss term over its micro-steps.

        Raises:
            UserError: a loss or the gradient is not finite; the step can be replayed, and its update is not made.
        """
        self.network.train()
        if self.settings.freeze_batchnorm:
            freeze_batchnorm(self.parts.model)
        accumulate = self.settings.accumulate
        sums: dict[str, Tensor] = {}
        losses: list[Tensor] = []
        # Dropout and the like: a function of seed, step and rank, so that no random state needs saving.
        rank = self.accelerator.process_index
        seeds = [_mix(self.config.seed, step * accumulate + micro, rank) for micro in range(accumulate)]
        for micro in range(accumulate):
            images, labels, weights = next(batches).to(self.accelerator.device, self.settings.channels_last)
            torch.manual_seed(seeds[micro])
            last = micro + 1 == accumulate
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.network):
                with self.accelerator.autocast():
                    fused = self.network(images, self.parts.model.train_scales)
                terms: dict[str, Tensor] = self.parts.objective(fused, labels, weights)
                self.accelerator.backward(terms["total"] / accumulate)
            losses.append(terms["total"].detach())
            for name, value in terms.items():
                sums[name] = value.detach() / accumulate + sums.get(name, 0)
        if not self._finite(losses):
            name = "failure.pt" if self.accelerator.is_main_process else f"failure-{rank}.pt"
            raise save_failure(self.out / name, self.config, self.parts, step, losses, seeds)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.parts.average is not None:
            self.parts.average.update_parameters(self.parts.model)
        return sums

    def _finite(self, losses: list[Tensor]) -> bool:
        """Whether losses and gradient are; clips the gradient where the recipe asks for it."""
        parameters = list(self.parts.model.parameters())
        if self.settings.clip_norm is not None:
            norm = torch.as_tensor(self.accelerator.clip_grad_norm_(parameters, self.settings.clip_norm))
        else:
            norm = get_total_norm(parameter.grad for parameter in parameters if parameter.grad is not None)
        # In fp16 gradients overflow now and then: the scaler then leaves the step out.
        values = [*losses, *([norm] if self.accelerator.scaler is None else [])]
        return bool(torch.stack([value.float() for value in values]).isfinite().all())


def _mix(seed: int, step: int, rank: int) -> int:
    digest = hashlib.sha256(f"{seed}/{step}/{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
