"""The training objective: named losses on the fused, the auxiliary and each scale's own logits.

    total = main(fused) + 0.4 aux(fused auxiliary logits) + 0.05 sum over scales of per_scale(that scale's logits)

The weights are those of the hierarchical multi-scale paper's training (arXiv:2005.10821), whose main loss is RMI.

Unusual here: the auxiliary and per-scale losses are the "same" as the main one, except that for RMI they are its
pixel-wise half, BCE, as in that training: neighbourhoods are compared once, where the scales are already fused.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from polyscale.config import Config
from polyscale.errors import UserError
from polyscale.labels import IGNORE
from polyscale.losses.bce import bce
from polyscale.losses.cross_entropy import cross_entropy
from polyscale.losses.dice import dice
from polyscale.losses.inputs import at_least_float32, check_labels, check_sizes, full_precision, nearest
from polyscale.losses.rmi import rmi_loss
from polyscale.multiscale import Fused, resize

__all__ = ["LossConfig", "LossName", "LossTerm", "Objective"]

LossName = Literal["rmi", "cross_entropy", "bce", "dice"]


class LossTerm(Config):
    """One loss of a weighted sum."""

    loss: LossName
    weight: float = Field(1.0, gt=0)


class LossConfig(Config):
    """Which losses, on what, and how they weigh.

    Example:
        >>> LossConfig(main=[{"loss": "cross_entropy"}, {"loss": "dice", "weight": 0.5}]).terms("main")
        (LossTerm(loss='cross_entropy', weight=1.0), LossTerm(loss='dice', weight=0.5))
    """

    main: LossName | Annotated[tuple[LossTerm, ...], Field(min_length=1)] = "rmi"
    """The loss on the fused logits: one name, or a list of {loss, weight}."""
    aux: Literal["same"] | LossName = "same"
    """The loss on the fused auxiliary logits; "same" as main, with BCE for RMI."""
    aux_weight: float = Field(0.4, ge=0)
    per_scale: Literal["same"] | LossName = "same"
    """The loss on each scale's own logits, where there is more than one scale; "same" as main, with BCE for RMI."""
    per_scale_weight: float = Field(0.05, ge=0)
    per_scale_size: Literal["labels", "view"] = "labels"
    """Where each scale's own logits meet the labels: enlarged to the labels' size as published, or at the view's own
    size, with the label at the middle of each of its pixels; in fast fusion that saves a large part of a step.
    """
    class_weights: (
        Literal["none", "inverse-log"] | Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)]
    ) = "none"
    """Cross entropy's weight of each class: a list, or "inverse-log" for 1 / ln(1.1 + share) of the training labels."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Cross entropy's share of the target that is spread over all classes."""
    ohem_threshold: float | None = Field(None, ge=0, le=1)
    """Cross entropy keeps pixels whose true class has a lower probability than this; null keeps all."""
    ohem_fraction: float = Field(0.1, ge=0, le=1)
    """Hard example mining keeps at least this share of the valid pixels."""
    rmi_lambda: float = Field(0.5, ge=0, le=1)
    """The share of BCE in RMI's loss."""
    rmi_radius: int = Field(3, ge=1, le=9)
    """The side of RMI's neighbourhoods, in pooled pixels."""
    rmi_pool: int = Field(4, ge=1)
    """The side and stride of RMI's average pooling, in pixels."""

    @field_validator("class_weights", mode="before")
    @classmethod
    def _null_is_none(cls, value: object) -> object:
        return "none" if value is None else value

    @field_validator("class_weights")
    @classmethod
    def _some_class_counts(cls, value: str | tuple[float, ...]) -> str | tuple[float, ...]:
        if not isinstance(value, str) and not any(value):
            raise ValueError("every class has the weight 0, so that nothing is learnt; give one a weight above 0")
        return value

    @field_validator("main")
    @classmethod
    def _once_each(cls, value: LossName | tuple[LossTerm, ...]) -> LossName | tuple[LossTerm, ...]:
        if not isinstance(value, str):
            names = [term.loss for term in value]
            doubled = sorted({name for name in names if names.count(name) > 1})
            if doubled:
                raise ValueError(f"loss {doubled[0]} is listed twice; give it once, with the sum of the weights")
        return value

    @model_validator(mode="after")
    def _options_are_used(self) -> "LossConfig":
        # A key that silently changes nothing costs its user a training run.
        used = {term.loss for part in ("main", "aux", "per_scale") for term in self.terms(part)}
        idle = [
            name
            for name, is_set in (
                ("class_weights", self.class_weights != "none"),
                ("label_smoothing", self.label_smoothing > 0),
                ("ohem_threshold", self.ohem_threshold is not None),
            )
            if is_set
        ]
        if idle and "cross_entropy" not in used:
            raise ValueError(
                f"{', '.join(idle)} needs a cross_entropy loss, but the losses are {', '.join(sorted(used))}; "
                "set main to cross_entropy or leave it out"
            )
        return self

    def terms(self, part: Literal["main", "aux", "per_scale"]) -> tuple[LossTerm, ...]:
        """The losses of one part of the objective, "same" resolved."""
        main = (LossTerm(loss=self.main),) if isinstance(self.main, str) else self.main
        if part == "main":
            return main
        choice = self.aux if part == "aux" else self.per_scale
        if choice != "same":
            return (LossTerm(loss=choice),)
        return tuple(LossTerm(loss="bce" if term.loss == "rmi" else term.loss, weight=term.weight) for term in main)


class Objective(nn.Module):
    """The weighted sum of a configuration's losses.

    Args:
        config: which losses and weights.
        class_weights: (C,), the numbers that ``class_weights: inverse-log`` stands for (see ``inverse_log_weights``);
            needed then, and of no effect where the configuration lists weights.

    Raises:
        UserError: the configuration asks for weights from the training labels, and none are given.
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
        check_sizes(fused.logits, labels)
        check_labels(labels, fused.logits.shape[1], IGNORE)
        labels = labels.long()
        config = self.config
        parts = self._sum(config.terms("main"), fused.logits, labels, weights)
        values = {"main": parts.pop("sum")}
        factors = {"main": 1.0}
        if fused.aux is not None and config.aux_weight > 0:
            values["aux"] = self._sum(config.terms("aux"), fused.aux, labels, weights)["sum"]
            factors["aux"] = config.aux_weight
        if len(fused.views) > 1 and config.per_scale_weight > 0:
            for scale in sorted(fused.views):
                name = f"scale_{scale:g}"
                logits = fused.views[scale].logits
                where, there = labels, weights
                if config.per_scale_size == "view":
                    where = nearest(labels, logits.shape[-2:])
                    there = weights if weights is None or weights.ndim == 1 else nearest(weights, logits.shape[-2:])
                values[name] = self._sum(config.terms("per_scale"), logits, where, there)["sum"]
                factors[name] = config.per_scale_weight
        total = torch.stack([factors[name] * value for name, value in values.items()]).sum()
        if len(parts) > 1:
            values |= {f"main.{name}": value for name, value in parts.items()}
        return {"total": total} | {name: value.detach() for name, value in values.items()}

    def _sum(
        self, terms: tuple[LossTerm, ...], logits: Tensor, labels: Tensor, weights: Tensor | None
    ) -> dict[str, Tensor]:
        """Each term's value by its name, and their weighted "sum"."""
        with full_precision(logits):
            logits = resize(at_least_float32(logits), labels.shape[-2:])
        values = {term.loss: self._value(term.loss, logits, labels, weights) for term in terms}
        weighted = torch.stack([term.weight * values[term.loss] for term in terms]).sum()
        return {"sum": weighted} | dict(values)

    def _value(self, loss: LossName, logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        config = self.config
        match loss:
            case "rmi":
                return rmi_loss(
                    logits,
                    labels,
                    weight_lambda=config.rmi_lambda,
                    radius=config.rmi_radius,
                    pool=config.rmi_pool,
                    weights=weights,
                    check=False,
                )
            case "cross_entropy":
                return cross_entropy(
                    logits,
                    labels,
                    class_weights=self.class_weights,
                    pixel_weights=weights,
                    label_smoothing=config.label_smoothing,
                    ohem_threshold=config.ohem_threshold,
                    ohem_fraction=config.ohem_fraction,
                    check=False,
                )
            case "bce":
                return bce(logits, labels, weights=weights, check=False)
            case "dice":
                return dice(logits, labels, weights=weights, check=False)
