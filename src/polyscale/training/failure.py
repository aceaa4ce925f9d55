"""What a step leaves whose loss or gradient is not finite: a file from which it can be computed again."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from polyscale.config import validate
from polyscale.crops import shard
from polyscale.crops.loader import Key, TrainingCrops
from polyscale.errors import UserError
from polyscale.files import memory_limit, write_atomically
from polyscale.losses import Objective
from polyscale.models import build_model
from polyscale.models.checkpoint import check_trusted
from polyscale.training.config import ExperimentConfig
from polyscale.training.optimizer import freeze_batchnorm
from polyscale.training.setup import Parts

__all__ = ["diverged", "replay", "save_failure"]

NAMED = 4
"""Images that a message names."""
KEPT = 2
"""Micro-batches that a file holds."""


def diverged(what: str, step: int, more: str = "") -> UserError:
    """The error that ends a run whose numbers are no longer finite.

    Args:
        what: is not finite.
        step: optimiser steps done, with this one.
        more: about the step.
    """
    return UserError(
        f"{what} at step {step}{more}; lower training.optimizer.lr, set training.clip_norm or use bf16 in place of "
        "fp16, and start anew in another --out (--resume would come to the same)"
    )


def save_failure(
    path: Path, config: ExperimentConfig, parts: Parts, step: int, losses: Sequence[Tensor], seeds: Sequence[int]
) -> UserError:
    """Keep the crops and the weights of a step before its update, and tell what happened.

    Args:
        path: where to.
        config: of the run.
        parts: of the run; the step's update has not been made.
        step: optimiser steps done before this one.
        losses: of each micro-batch of this process.
        seeds: of each micro-batch.

    Returns:
        The error that is to end the run.
    """
    plan = parts.plan
    epoch, position = divmod(step, plan.steps_per_epoch)
    draws = shard(plan.sampler.epoch(epoch), plan.batch_size, plan.rank, plan.world_size)
    draws = draws[position * plan.accumulate : (position + 1) * plan.accumulate]
    wrong = [micro for micro, loss in enumerate(losses) if not bool(loss.isfinite())]
    what = f"the loss is {float(losses[wrong[0]])}" if wrong else "the gradient is not finite"
    micros = wrong or list(range(len(losses)))
    names = [parts.train_data.items[draw.index].name for micro in micros for draw in draws[micro]]
    listed = ", ".join(name[-40:] for name in names[:NAMED])
    listed += f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    crops = TrainingCrops(parts.train_data, config.augment, config.seed)
    batches = []
    for micro in micros[:KEPT]:
        found = [crops[Key(epoch, draw)] for draw in draws[micro]]
        weights = [crop.weights for crop in found if crop.weights is not None]
        batches.append(
            {
                "seed": seeds[micro],
                "names": [parts.train_data.items[draw.index].name for draw in draws[micro]],
                "images": torch.stack([crop.image for crop in found]),
                "labels": torch.stack([crop.labels for crop in found]),
                "weights": torch.stack(weights) if weights else None,
            }
        )
    content = {
        "config": config.model_dump_json(),
        "step": step,
        "num_classes": parts.train_data.label_space.num_classes,
        "class_weights": parts.objective.class_weights,
        "batches": batches,
        "model": parts.model.state_dict(),
    }
    with write_atomically(path) as temporary:
        torch.save(content, temporary)
    return diverged(what, step + 1, f" (images {listed}; {path.name} in the run's folder holds the step)")


def replay(path: str | Path, trust: Collection[str] = ()) -> list[dict[str, float]]:
    """Compute the step of a ``failure.pt`` again, on the CPU.

    Args:
        path: of the file.
        trust: as for ``polyscale.load``.

    Returns:
        For each micro-batch the terms of the loss, and "gradient", the norm of its gradient.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with memory_limit(path):
            content = torch.load(path, map_location="cpu", weights_only=True)
        config = validate(ExperimentConfig, json.loads(content["config"]))
    except Exception as error:  # torch raises many types for a damaged file
        raise UserError(f"cannot read {path}: {str(error)[:200] or type(error).__name__}") from None
    check_trusted(config.model, trust, path)
    backbone = config.model.backbone.model_copy(update={"pretrained": False})
    model = build_model(config.model.model_copy(update={"backbone": backbone}), content["num_classes"])
    model.load_state_dict(content["model"])
    objective = Objective(config.loss, content["class_weights"])
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.training.mixed_precision)
    results = []
    for batch in content["batches"]:
        model.train()
        model.zero_grad()
        if config.training.freeze_batchnorm:
            freeze_batchnorm(model)
        torch.manual_seed(batch["seed"])
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            fused = model(batch["images"], model.train_scales)
        terms = objective(fused, batch["labels"], batch["weights"])
        terms["total"].backward()
        norm = get_total_norm(p.grad for p in model.parameters() if p.grad is not None)
        results.append({name: float(value.detach()) for name, value in terms.items()} | {"gradient": float(norm)})
    return results
