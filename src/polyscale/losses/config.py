"""The losses, their keys in a recipe, and the options that each reads."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator
from torch import Tensor

from polyscale.config import Config
from polyscale.errors import nearest
from polyscale.losses.bce import bce
from polyscale.losses.cross_entropy import cross_entropy
from polyscale.losses.dice import dice
from polyscale.losses.focal import focal
from polyscale.losses.lovasz import lovasz_softmax
from polyscale.losses.rmi import rmi_loss

__all__ = ["LOSSES", "LossConfig", "LossName", "LossTerm", "Part"]


class Loss(NamedTuple):
    """A function of logits, a target and options."""

    function: Callable[..., Tensor]
    options: Mapping[str, str] = {}
    """The key of ``LossConfig`` that holds each of the function's options."""


LOSSES: dict[str, Loss] = {
    "rmi": Loss(rmi_loss, {"weight_lambda": "rmi_lambda", "radius": "rmi_radius", "pool": "rmi_pool"}),
    "cross_entropy": Loss(
        cross_entropy, {key: key for key in ("class_weights", "label_smoothing", "ohem_threshold", "ohem_fraction")}
    ),
    "focal": Loss(focal, {"class_weights": "class_weights", "gamma": "focal_gamma"}),
    "bce": Loss(bce),
    "dice": Loss(dice),
    "lovasz": Loss(lovasz_softmax),
}
"""A new loss is a file and a line here."""


def _is_loss(name: str) -> str:
    if name not in LOSSES and ":" not in name:
        known = f"{', '.join(LOSSES)}{nearest(name, LOSSES)}"
        raise ValueError(f"must be one of {known}, or a function of yours as module:name")
    return name


LossName = Annotated[str, AfterValidator(_is_loss)]
_NameOrSame = Annotated[str, AfterValidator(lambda name: name if name == "same" else _is_loss(name))]
Part = Literal["main", "aux", "per_scale"]


class LossTerm(Config):
    """One loss of a weighted sum."""

    loss: LossName
    """Its name, or a function of yours as ``module:name``."""
    weight: float = Field(1.0, gt=0)
    """Its factor in the sum."""


# Told apart by their form, so that a wrong name is not also said to be no list.
_NameOrList = Annotated[
    Annotated[LossName, Tag("str")] | Annotated[tuple[LossTerm, ...], Field(min_length=1), Tag("list")],
    Discriminator(lambda value: "str" if isinstance(value, str) else "list"),
]


class LossConfig(Config):
    """The losses, their inputs and their weights.

    A loss is one of ``LOSSES``, or a function of yours as ``module:name``, which is imported when a run starts. It
    takes logits (N, C, H, W) in at least float32, labels (N, H, W) of int64 with 255 where a pixel does not count, and
    weights (N, H, W) that are 0 there; it returns a scalar.

    Example:
        >>> LossConfig(main=[{"loss": "cross_entropy"}, {"loss": "dice", "weight": 0.5}]).terms("main")
        (LossTerm(loss='cross_entropy', weight=1.0), LossTerm(loss='dice', weight=0.5))
    """

    main: _NameOrList = "rmi"
    """The loss on the fused logits: one name, or a list of {loss, weight}."""
    aux: _NameOrSame = "same"
    """The loss on the fused auxiliary logits; "same" as main, with BCE for RMI."""
    aux_weight: float = Field(0.4, ge=0)
    """The weight of the loss on the auxiliary logits."""
    per_scale: _NameOrSame = "same"
    """The loss on each scale's own logits, where there is more than one scale; "same" as main, with BCE for RMI."""
    per_scale_weight: float = Field(0.05, ge=0)
    """The weight of the loss on each scale's own logits."""
    per_scale_size: Literal["labels", "view"] = "labels"
    """Where each scale's own logits meet the labels: enlarged to the labels' size as published, or at the view's own
    size, with the label at the middle of each of its pixels; in fast fusion that saves a large part of a step.
    """
    class_weights: (
        Literal["none", "inverse-log"] | Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)]
    ) = "none"
    """The weight of each class in cross entropy and focal loss: a list, or "inverse-log" for 1 / ln(1.1 + share) of the
    training labels.
    """
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Cross entropy's share of the target that is spread over all classes."""
    ohem_threshold: float | None = Field(None, ge=0, le=1)
    """Cross entropy keeps pixels whose true class has a lower probability than this; null keeps all."""
    ohem_fraction: float = Field(0.1, ge=0, le=1)
    """Hard example mining keeps at least this share of the valid pixels."""
    focal_gamma: float = Field(2.0, ge=0)
    """How fast easy pixels fade in focal loss; 0 is cross entropy."""
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
    def _once_each(cls, value: str | tuple[LossTerm, ...]) -> str | tuple[LossTerm, ...]:
        if not isinstance(value, str):
            names = [term.loss for term in value]
            doubled = sorted({name for name in names if names.count(name) > 1})
            if doubled:
                raise ValueError(f"loss {doubled[0]} is listed twice; give it once, with the sum of the weights")
        return value

    @model_validator(mode="after")
    def _options_are_used(self) -> "LossConfig":
        # A key that silently changes nothing costs its user a training run.
        readers: dict[str, list[str]] = {}
        for name, loss in LOSSES.items():
            for key in loss.options.values():
                readers.setdefault(key, []).append(name)
        used = {term.loss for part in ("main", "aux", "per_scale") for term in self.terms(part)}
        for key, names in readers.items():
            changed = getattr(self, key) != type(self).model_fields[key].default
            if changed and not used.intersection(names):
                raise ValueError(
                    f"{key} needs the loss {' or '.join(names)}, but the losses are {', '.join(sorted(used))}; "
                    f"set main to {names[0]}, or leave {key} out"
                )
        return self

    def terms(self, part: Part) -> tuple[LossTerm, ...]:
        """The losses of one part of the objective, "same" resolved."""
        main = (LossTerm(loss=self.main),) if isinstance(self.main, str) else self.main
        if part == "main":
            return main
        choice = self.aux if part == "aux" else self.per_scale
        if choice != "same":
            return (LossTerm(loss=choice),)
        return tuple(LossTerm(loss="bce" if term.loss == "rmi" else term.loss, weight=term.weight) for term in main)

    def options(self, loss: str) -> dict[str, Any]:
        """Keyword arguments of a loss of ``LOSSES``, besides logits and target."""
        return {name: getattr(self, key) for name, key in LOSSES[loss].options.items()}
