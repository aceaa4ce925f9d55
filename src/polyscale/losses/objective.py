"""The training objective: named losses on the fused, the auxiliary and each scale's own logits.

    total = main(fused) + 0.4 aux(fused auxiliary logits) + 0.05 sum over scales of per_scale(that scale's logits)

The weights are those of the hierarchical multi-scale paper's training (arXiv:2005.10821), whose main loss is RMI. The
auxiliary and per-scale losses are the "same" as the main one, but BCE where that is RMI, as in that training:
neighbourhoods are compared once, where the scales are already fused.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from polyscale.config import import_path
from polyscale.errors import UserError
from polyscale.losses.config import LOSSES, LossConfig, LossTerm, Part
from polyscale.losses.inputs import Target, at_least_float32, prepared
from polyscale.multiscale import Fused, resize

__all__ = ["Objective"]


class Objective(nn.Module):
    """The weighted sum of a configuration's losses.

    Args:
        config: which losses and weights.
        class_weights: (C,), the numbers that ``class_weights: inverse-log`` stands for (see ``inverse_log_weights``);
            needed then, and of no effect where the configuration lists weights.

    Raises:
        UserError: the configuration asks for weights from the training labels, and none are given; or it names a
            function that cannot be imported.
    """

    class_weights: Tensor | None

    def __init__(self, config: LossConfig, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        if config.class_weights == "inverse-log" and class_weights is None:
            raise UserError(
                "class_weights: inverse-log needs pixel counts; pass inverse_log_weights(counts) or give a list"
            )
        if not isinstance(config.class_weights, str):
            class_weights = torch.tensor(config.class_weights)
        # It follows the module's device, but belongs to no checkpoint.
        self.register_buffer("class_weights", class_weights, persistent=False)
        parts: tuple[Part, ...] = ("main", "aux", "per_scale")
        names = {term.loss for part in parts for term in config.terms(part)}
        self._foreign = {name: _foreign(name) for name in names if name not in LOSSES}

    def forward(self, fused: Fused, labels: Tensor, weights: Tensor | None = None) -> dict[str, Tensor]:
        """Compute every loss.

        Args:
            fused: logits (N, C, H, W), auxiliary logits or None, and the views of each scale, at any size.
            labels: (N, H, W) integers, 0..C-1 or 255.
            weights: >= 0, of each image (N,) or each pixel (N, H, W), in every part alike; None for ones. RMI takes
                weights of images only.

        Returns:
            Scalars, at least float32: "total", then the value of each term before its weight and without a gradient:
            "main", "aux", and "scale_0.5", "scale_1" ... from coarse to fine. Where main is a list, "main" is its
            weighted sum, and "main.dice" and so on are its parts.

        Raises:
            UserError: logits and labels differ in size, a label is not a class, or the number of class weights is not
            C.
        """
        config = self.config
        with prepared(fused.logits, labels, weights) as (logits, target):
            parts = self._sum(config.terms("main"), logits, target)
            values = {"main": parts.pop("sum")}
            factors = {"main": 1.0}
            if fused.aux is not None and config.aux_weight > 0:
                values["aux"] = self._sum(config.terms("aux"), fused.aux, target)["sum"]
                factors["aux"] = config.aux_weight
            if len(fused.views) > 1 and config.per_scale_weight > 0:
                for scale in sorted(fused.views):
                    name, logits = f"scale_{scale:g}", fused.views[scale].logits
                    there = target.at(logits.shape[-2:]) if config.per_scale_size == "view" else target
                    values[name] = self._sum(config.terms("per_scale"), logits, there)["sum"]
                    factors[name] = config.per_scale_weight
            total = torch.stack([factors[name] * value for name, value in values.items()]).sum()
        if len(parts) > 1:
            values |= {f"main.{name}": value for name, value in parts.items()}
        return {"total": total} | {name: value.detach() for name, value in values.items()}

    def _sum(self, terms: tuple[LossTerm, ...], logits: Tensor, target: Target) -> dict[str, Tensor]:
        """Each term's value by its name, and their weighted "sum"."""
        logits = resize(at_least_float32(logits), target.labels.shape[-2:])
        values = {term.loss: self._value(term.loss, logits, target) for term in terms}
        weighted = torch.stack([term.weight * values[term.loss] for term in terms]).sum()
        return {"sum": weighted} | values

    def _value(self, loss: str, logits: Tensor, target: Target) -> Tensor:
        if loss not in LOSSES:
            return self._foreign[loss](logits, target.labels, target.weights)
        options = self.config.options(loss)
        if "class_weights" in options:
            options["class_weights"] = self.class_weights
        return LOSSES[loss].function(logits, target, **options)


def _foreign(path: str) -> Callable[..., Tensor]:
    """A user's own loss, whose result is checked.

    Raises:
        UserError: it cannot be imported, or called.
    """
    function: Any = import_path(path)
    if not callable(function):
        raise UserError(f"loss {path} is a {type(function).__name__}; name a function of logits, labels and weights")
    return partial(_scalar, path, function)


def _scalar(path: str, function: Callable[..., object], *tensors: Tensor) -> Tensor:
    value = function(*tensors)
    if not isinstance(value, Tensor) or value.ndim:
        shown = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise UserError(f"loss {path} gave {shown}; it must return one number as a tensor, such as a mean")
    return value
