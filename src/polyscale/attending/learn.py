"""Learning the attention from cached pixels; the network that gave them stays as it is."""

from collections.abc import Callable, Sequence
from itertools import combinations, pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from polyscale.attending.config import AttendConfig
from polyscale.attending.controls import Control
from polyscale.attending.pixels import Pixels
from polyscale.attention import AttentionOverViews
from polyscale.errors import UserError

__all__ = ["class_weights", "learn", "scale_sets"]

WARM_UP = 20


def scale_sets(scales: Sequence[float]) -> list[tuple[float, ...]]:
    """Sets of scales that training draws from: the whole chain, and each pair of neighbours, all with scale 1."""
    ordered = tuple(sorted(scales, reverse=True))
    pairs = [pair for pair in pairwise(ordered) if 1.0 in pair] or [p for p in combinations(ordered, 2) if 1.0 in p]
    return [ordered, *(pair for pair in pairs if pair != ordered)]


def class_weights(labels: Tensor, num_classes: int, power: float) -> Tensor:
    """Weight of each class, (C,): its share to the power of ``-power``; the mean over all pixels is 1."""
    shares = labels.flatten().bincount(minlength=num_classes) / labels.numel()
    weights = shares.clamp_min(1e-4) ** -power
    return weights / (weights * shares).sum()


def learn(
    model: AttentionOverViews | Control,
    pixels: Pixels,
    config: AttendConfig,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Train ``model.head`` in place; every draw is a function of the seed and the step.

    Args:
        model: the network, of which only the head is trained, or a control.
        pixels: of the training images.
        config: settings.
        progress: called with (steps done, steps in all).

    Raises:
        UserError: the weights grew beyond all bounds.
    """
    head, number = model.head, len(pixels.labels)
    head.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(head.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    size = min(config.batch_size, number)
    batches = max(1, number // size)
    total, device = config.epochs * batches, next(head.parameters()).device
    sets = scale_sets(config.scales) if isinstance(model, AttentionOverViews) else [config.scales]
    num_classes = next(iter(pixels.views.values())).logits.shape[1]
    weights = class_weights(pixels.labels, num_classes, config.rare_classes).to(device)
    for epoch in range(config.epochs):
        order = torch.from_numpy(np.random.default_rng((config.seed, epoch)).permutation(number))
        for batch in range(batches):
            step = epoch * batches + batch
            rate = config.lr * min(1.0, (step + 1) / WARM_UP) * (1 - step / total)
            for group in optimizer.param_groups:
                group["lr"] = rate
            scales = sets[int(np.random.default_rng((config.seed, epoch, batch)).integers(len(sets)))]
            views, known, labels = pixels.part(order[batch * size : (batch + 1) * size], scales, device)
            loss = functional.cross_entropy(model.chain(views, known).logits, labels, weights)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            if progress is not None:
                progress(step + 1, total)
    head.eval()
    if not all(parameter.isfinite().all() for parameter in head.parameters()):
        raise UserError(f"learning the attention diverged with lr={config.lr:g}; choose less, such as lr=2e-3")
