"""Tells which network a checkpoint of the authors' project holds, from its tensors' names and shapes.

The files say nothing of the network but its tensors. What they cannot tell (the scales of explicit
attention, of which only the number shows) takes the published value unless it is given.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from polyscale.config import validate
from polyscale.errors import UserError
from polyscale.models.build import ModelConfig
from polyscale.models.reference.names import TRUNKS

__all__ = ["ReferenceNetwork", "describe"]

# Each decoder's tensor that gives class logits, and the one that nobody else has.
_CLASSIFIERS = {"ocr": "ocr.cls_head.weight", "deeperlab": "conv_up5.weight", "deeplabv3plus": "final.6.weight"}
# Others whose shapes tell of the network.
_READ = (
    "ocr.ocr_distri_head.object_context_block.f_down.0.weight",
    "aspp.a.0.weight",
    "aspp.img_conv.0.weight",
    "bot_fine.weight",
    "final.0.weight",
)
_RESNETS = {(3, 4, 6, 3): "resnet50", (3, 4, 23, 3): "resnet101"}
_EXPLICIT_SCALES = {2: (0.5, 1.0), 3: (0.5, 1.0, 2.0), 4: (0.25, 0.5, 1.0, 2.0)}


class ReferenceNetwork(NamedTuple):
    """What a checkpoint holds."""

    config: ModelConfig
    num_classes: int
    timm: bool
    """The backbone is one of timm's rather than one of ours."""
    attention: str | None
    """Prefix of the attention head's names in the model; None where there is none."""


def describe(state: Mapping[str, Tensor], source: str, scales: Sequence[float] | None = None) -> ReferenceNetwork:
    """Tell the network from its tensors.

    Args:
        state: tensors under the reference's names.
        source: the file, for messages.
        scales: those of explicit attention, or of the pair that the hierarchical form was trained with; None for the
            published ones.

    Raises:
        UserError: a part of the network is not one that can be built here.
    """
    trunk = {key.partition(".")[2]: value for key, value in state.items() if key.startswith(TRUNKS)}
    if not trunk:
        raise UserError(
            f"{source}: no tensor of a backbone ({' or '.join(TRUNKS)}) was found, the first is {next(iter(state))!r}; "
            "checkpoints of NVIDIA/semantic-segmentation, HRNet-OCR and PaddleSeg's OCRNet can be imported"
        )
    backbone = _backbone(trunk, source)
    in_house = backbone["name"] in ("wide_resnet38", "aligned_xception71")
    kind = next((kind for kind, key in _CLASSIFIERS.items() if key in state), None)
    if kind is None:
        heads = sorted({key.partition(".")[0] for key in state if not key.startswith(TRUNKS)})
        raise UserError(
            f"{source}: none of the decoders {', '.join(_CLASSIFIERS)} fits the parts {', '.join(heads) or '(none)'}; "
            "weights of a backbone alone go into model.backbone.pretrained"
        )
    for key in (_CLASSIFIERS[kind], *_READ):
        if key in state and state[key].ndim != 4:
            raise UserError(f"{source}: {key} has the shape {tuple(state[key].shape)}, which is no convolution's")
    num_classes = int(state[_CLASSIFIERS[kind]].shape[0])
    multiscale, attention = _multiscale(state, kind, source, scales)
    config = {"backbone": backbone, "decoder": _decoder(state, kind, in_house), "multiscale": multiscale, "pad": False}
    try:
        return ReferenceNetwork(validate(ModelConfig, config), num_classes, not in_house, attention)
    except UserError as error:
        raise UserError(f"{source} holds a network that cannot be built here: {error}") from None


def _backbone(trunk: Mapping[str, Tensor], source: str) -> dict[str, Any]:
    if "mod1.conv1.weight" in trunk:
        return {"name": "wide_resnet38", "output_stride": 8}
    if "block20.rep.0.weight" in trunk or any(key.startswith("block20.") for key in trunk):
        return {"name": "aligned_xception71", "output_stride": 8}
    if "transition1.0.0.weight" in trunk and trunk["transition1.0.0.weight"].ndim == 4:
        return {"name": f"hrnet_w{trunk['transition1.0.0.weight'].shape[0]}"}
    if "layer0.0.weight" in trunk:
        depths = tuple(_num_blocks(trunk, f"layer{number}") for number in range(1, 5))
        if depths in _RESNETS:
            return {"name": _RESNETS[depths], "output_stride": 8, "dilate_first_blocks": True}
    raise UserError(
        f"{source}: its backbone is none of those known here (HRNet, ResNet-50 and -101, WideResNet-38, Xception-71); "
        f"its first tensor is {next(iter(trunk))!r}"
    )


def _num_blocks(trunk: Mapping[str, Tensor], stage: str) -> int:
    found = {match[1] for key in trunk if (match := re.match(rf"{stage}\.(\d+)\.", key))}
    return len(found)


def _decoder(state: Mapping[str, Tensor], kind: str, in_house: bool) -> dict[str, Any]:
    if kind == "ocr":
        pixels = state["ocr.cls_head.weight"].shape[1]
        keys = state.get("ocr.ocr_distri_head.object_context_block.f_down.0.weight")
        return {"kind": kind, "ocr_channels": pixels} | ({} if keys is None else {"ocr_key_channels": keys.shape[0]})
    values: dict[str, Any] = {"kind": kind}
    if "aspp.a.0.weight" in state:
        values |= {"pyramid": "dpc", "aspp_channels": state["aspp.a.0.weight"].shape[0]}
    if "aspp.img_conv.0.weight" in state:
        values["aspp_channels"] = state["aspp.img_conv.0.weight"].shape[0]
    if kind == "deeplabv3plus":
        # The reference's WideResNet-38 and Xception-71 give their fine map at stride 2, its ResNets at stride 4.
        values["fine_stride"] = 2 if in_house else 4
        if "bot_fine.weight" in state:
            values["fine_channels"] = state["bot_fine.weight"].shape[0]
    return values


def _multiscale(
    state: Mapping[str, Tensor], kind: str, source: str, scales: Sequence[float] | None
) -> tuple[dict[str, Any], str | None]:
    """The configuration of how scales are combined, and the prefix of the attention head."""
    weights = {key: value for key, value in state.items() if key.startswith("scale_attn.") and value.ndim == 4}
    if not weights:
        if scales is not None:
            raise UserError(f"{source} has no attention head, and looks at scale 1 only; leave the scales out")
        return {"method": "single"}, None
    first, last = next(iter(weights.values())), list(weights.values())[-1]
    features = _feature_channels(state, kind)
    num_inputs, rest = divmod(first.shape[1], features)
    num_maps = last.shape[0]
    attention: dict[str, Any] = {"channels": first.shape[0]}
    if rest == 0 and num_maps == 1 and num_inputs in (1, 2):
        values = {"method": "hierarchical", "fusion": "exact"} | ({} if scales is None else {"train_scales": scales})
        source_of = "scale" if num_inputs == 1 else "pair"
        place = "segmenter.attention" if num_inputs == 1 else "head"
        return values | {"attention": attention | {"source": source_of}}, place
    if rest or num_maps != num_inputs:
        raise UserError(
            f"{source}: its attention head reads {first.shape[1]} channels and gives {num_maps} maps, which fits none "
            f"of the forms known here for features of {features} channels"
        )
    scales = _EXPLICIT_SCALES.get(num_maps) if scales is None else scales
    if scales is None or len(scales) != num_maps:
        raise UserError(f"{source} has explicit attention over {num_maps} scales; name them, for example 0.5,1,2")
    has_norm = any(key.startswith("scale_attn.") and key.endswith("running_mean") for key in state)
    attention |= {"softmax": False, "batch_norm": has_norm}
    return {"method": "explicit", "train_scales": scales, "attention": attention}, "head"


def _feature_channels(state: Mapping[str, Tensor], kind: str) -> int:
    """Channels that the attention head reads of one scale."""
    if kind == "ocr":
        return int(state["ocr.cls_head.weight"].shape[1])
    key = {"deeplabv3plus": "final.0.weight", "deeperlab": "conv_up5.weight"}[kind]
    return int(state[key].shape[1]) if key in state else 1
