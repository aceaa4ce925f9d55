"""Checks before an evaluation of what a user can get wrong.

Each is told in one line before the first image rather than after an hour, and in every process alike.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from polyscale.adaptive import AdaptiveMultiScale
from polyscale.errors import UserError
from polyscale.labels import LabelSpace
from polyscale.models.onnx_network import OnnxNetwork
from polyscale.multiscale import MultiScale
from polyscale.scales import check_scales

if TYPE_CHECKING:
    from polyscale.data.items import SegmentationData

__all__ = ["check_channels", "check_classes", "check_items", "choose_scales", "no_mask"]


def choose_scales(
    model: MultiScale, asked: Sequence[float] | None, compare: bool
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """All scales to look at, and those of the network's own result, both finest first.

    Args:
        model: the network.
        asked: the scales asked for, or None.
        compare: scales are to be compared, so a network of scale 1 may be shown others.

    Raises:
        UserError: 1 is not among the scales, the network cannot take them, or it shows no views to compare.
    """
    if compare and isinstance(model, AdaptiveMultiScale):
        raise UserError("a comparison of scales needs every scale everywhere; leave it or adaptive looking out")
    if compare and isinstance(model, OnnxNetwork):
        raise UserError(
            "an exported network shows no single scales; leave --compare and --report out, or evaluate the checkpoint"
        )
    try:
        if compare and asked is not None and model.fixed and model.eval_scales == (1.0,):
            return check_scales(asked), (1.0,)
        chosen = model.choose(asked)
    except ValueError as error:
        raise UserError(str(error)) from None
    return chosen, chosen


def check_items(data: "SegmentationData") -> None:
    """There are images, and all have masks.

    Raises:
        UserError: there are none, or one has no mask.
    """
    if not len(data):
        raise UserError(
            f"the data set has no images to evaluate (label space {data.label_space.name!r}); check its path and split"
        )
    without = [index for index, item in enumerate(data.items) if item.mask is None]
    # A set that draws its labels may have no mask files: reading one item tells.
    if without and data.read(without[0]).labels is None:
        raise no_mask(data.items[without[0]].name, f" ({len(without)} of {len(data)} have none)")


def no_mask(name: str, more: str = "") -> UserError:
    """The error of an image without mask."""
    return UserError(
        f"image {name!r} has no mask{more}; evaluation needs a mask for every image, to label images use predict"
    )


def check_channels(model: MultiScale, data: "SegmentationData", name: str = "data") -> None:
    """Images have as many channels as the network takes.

    Raises:
        UserError: they have not.
    """
    found = getattr(data, "num_channels", 3)
    if found != model.in_channels:
        raise UserError(
            f"the network takes images of {model.in_channels} channels, and those of {name} have {found}; set the "
            f"data's bands, or model.backbone.in_channels: {found} in training"
        )


def check_classes(network: LabelSpace, data: LabelSpace) -> None:
    """The network's classes are the data's, in the same order; upper and lower case may differ.

    Raises:
        UserError: their number or a name differs; the message says which.
    """
    if network.num_classes != data.num_classes:
        raise UserError(
            f"the network has {network.num_classes} classes (label space {network.name!r}), "
            f"the data {data.num_classes} ({data.name!r}); give data of the network's label space"
        )
    if not network.match(data).same_order:
        pairs = enumerate(zip(network.names, data.names, strict=True))
        different = [f"{k} is {a!r}, in the data {b!r}" for k, (a, b) in pairs if a.casefold() != b.casefold()]
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        raise UserError(
            f"label spaces {network.name!r} of the network and {data.name!r} of the data differ: "
            f"class {'; '.join(different[:3])}{more}; give data with the network's classes in the same order"
        )
