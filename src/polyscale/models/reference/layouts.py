"""Other projects' names for the same networks, brought to those of the paper's authors.

HRNet/HRNet-Semantic-Segmentation (branch HRNet-OCR), whose trunk and decoder the authors took over, and PaddleSeg's
re-implementation of the paper (MscaleOCRNet) and of OCRNet.

Two of the three are not quite the network of this package. HRNet-OCR resizes with aligned corners, and
PaddleSeg's plain OCRNet pads its strided convolutions on one side; their weights are a start for training, and
``exact`` says so.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from polyscale.errors import UserError
from polyscale.models.reference.load import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["Layout", "to_reference"]

_TRAINING_LOSS = ("criterion.", "loss.")


class Layout(NamedTuple):
    """Tensors under the reference's names, and what else is known of them."""

    state: dict[str, Tensor]
    origin: str
    exact: bool = True
    """Whether this package's network computes just what the origin's does."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


def to_reference(state: Mapping[str, Tensor], source: str) -> Layout:
    """Tell whose names these are, and change them to the reference's.

    Args:
        state: tensors as stored.
        source: the file, for messages.

    Raises:
        UserError: an ImageNet classifier or another network without a decoder that is known here.
    """
    state = _without_prefix(_without_prefix(state, "module."), "model.")
    state = {key: value for key, value in state.items() if not key.startswith(_TRAINING_LOSS)}
    if any(key.endswith("._batch_norm._mean") for key in state):
        return _paddle(state)
    if "stage4.0.branches.0.0.conv1.weight" not in state:
        return Layout(dict(state), "NVIDIA/semantic-segmentation")
    if "conv3x3_ocr.0.weight" not in state:
        raise UserError(
            f"{source} holds an HRNet without the OCR decoder (a classifier, or HRNetV2's own head); as a start for "
            "training give the file itself: model.backbone.pretrained"
        )
    renamed = {_hrnet_ocr_name(key): value for key, value in state.items()}
    return Layout(renamed, "HRNet/HRNet-Semantic-Segmentation, HRNet-OCR", exact=False)


def _without_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Keys less a wrapper's prefix, where all but those of the training loss have it."""
    if any(not key.startswith((prefix, *_TRAINING_LOSS)) for key in state):
        return dict(state)
    return {key.removeprefix(prefix): value for key, value in state.items()}


def _hrnet_ocr_name(key: str) -> str:
    if key.startswith(("conv1.", "bn1.", "conv2.", "bn2.", "layer", "transition", "stage")):
        return f"backbone.{key}"
    key = re.sub(r"^(conv3x3_ocr|aux_head)\.1\.", r"\1.1.0.", key)
    return "ocr." + re.sub(r"^aux_head\.3\.", "aux_head.2.", key)


def _paddle(state: Mapping[str, Tensor]) -> Layout:
    """PaddleSeg's: MscaleOCRNet (``ocrnet.`` and ``scale_attn.``), or OCRNet alone."""
    multiscale = any(key.startswith("ocrnet.") for key in state)
    renamed = {_paddle_name(key.removeprefix("ocrnet.")): value for key, value in state.items()}
    # Convolutions before a batch norm have a bias in PaddleSeg's OCRNet where ours have none; it moves into the mean.
    for key in [key for key in renamed if key.endswith(".bias") and key.removesuffix("bias") + "weight" in renamed]:
        if renamed[key.removesuffix("bias") + "weight"].ndim == 4 and not key.startswith(_WITH_BIAS):
            norm = _norm_behind(key.removesuffix(".bias"))
            if f"{norm}.running_mean" in renamed:
                renamed[f"{norm}.running_mean"] = renamed[f"{norm}.running_mean"] - renamed.pop(key)
    if multiscale:
        return Layout(renamed, "PaddleSeg MscaleOCRNet")
    half = (0.5, 0.5, 0.5)
    return Layout(renamed, "PaddleSeg OCRNet", exact=False, mean=half, std=half)


_WITH_BIAS = ("ocr.conv3x3_ocr.", "ocr.aux_head.", "ocr.cls_head.")


def _norm_behind(conv: str) -> str:
    """``….f_pixel.2`` -> ``….f_pixel.3.0``."""
    stem, _, place = conv.rpartition(".")
    return f"{stem}.{int(place) + 1}.0" if place.isdecimal() else ""


def _down(match: re.Match[str], *groups: int) -> list[int]:
    """Numbers that the name counts from one, counted from zero."""
    return [int(match[group]) - 1 for group in groups]


def _stem(match: re.Match[str]) -> str:
    return f"backbone.{{conv|bn}}{match[1]}"


def _bottleneck(match: re.Match[str]) -> str:
    (block,) = _down(match, 1)
    layer = "downsample.{0|1}" if match[2] == "conv_down" else f"{{conv|bn}}{match[2][4:]}"
    return f"backbone.layer1.{block}.{layer}"


def _transition(match: re.Match[str]) -> str:
    # A branch that is new there is made by a sequence of its own.
    (branch,) = _down(match, 2)
    inner = ".0" if int(match[2]) > int(match[1]) else ""
    return f"backbone.transition{match[1]}.{branch}{inner}.{{0|1}}"


def _branch(match: re.Match[str]) -> str:
    module, branch, block = _down(match, 2, 3, 4)
    return f"backbone.stage{match[1]}.{module}.branches.{branch}.{block}.{{conv|bn}}{match[5]}"


def _exchange(match: re.Match[str]) -> str:
    module, target, origin = _down(match, 2, 3, 4)
    step = "" if match[5] is None else f".{int(match[5]) - 1}"
    return f"backbone.stage{match[1]}.{module}.fuse_layers.{target}.{origin}{step}.{{0|1}}"


def _context(match: re.Match[str]) -> str:
    first = 2 * int(match[2] or 0)
    return f"ocr.ocr_distri_head.object_context_block.{match[1]}.{{{first}|{first + 1}.0}}"


# Of each pair of convolution and norm, the name in the reference: {name of the convolution|name of the norm}.
_PAIRS: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"backbone\.conv_layer1_(\d)", _stem),
    (r"backbone\.la1\.bb_layer2_(\d+)\.(conv\d|conv_down)", _bottleneck),
    (r"backbone\.tr\d\.transition_tr(\d)_layer_(\d)", _transition),
    (r"backbone\.st(\d)\.stage_st\d_(\d)\.branches_func\.bb_st\d_\d_branch_layer_(\d)_(\d)\.conv(\d)", _branch),
    (r"backbone\.st(\d)\.stage_st\d_(\d)\.fuse_func\.residual_st\d_\d_layer_(\d)_(\d)(?:_(\d))?", _exchange),
    (r"head\.conv3x3_ocr", lambda _: "ocr.conv3x3_ocr.{0|1.0}"),
    (r"head\.aux_head\.0", lambda _: "ocr.aux_head.{0|1.0}"),
    (r"head\.spatial_ocr\.conv1x1\.0", lambda _: "ocr.ocr_distri_head.conv_bn_dropout.{0|1.0}"),
    (r"head\.spatial_ocr\.attention_block\.(f_pixel|f_object|f_down|f_up)(?:\.(\d))?", _context),
    (r"scale_attn\.atten_head\.([01])", lambda match: f"scale_attn.{{conv|bn}}{match[1]}"),
)
_LAST_LAYERS = {"head.aux_head.1": "ocr.aux_head.2", "head.cls_head": "ocr.cls_head"} | {
    "scale_attn.atten_head.2": "scale_attn.conv2"
}
_STATISTICS = {"_mean": "running_mean", "_variance": "running_var"}


def _paddle_name(key: str) -> str:
    """The reference's name, or the key itself where PaddleSeg's pattern is not one that is known."""
    layer, _, tensor = key.rpartition(".")
    tensor = _STATISTICS.get(tensor, tensor)
    if layer in _LAST_LAYERS:
        return f"{_LAST_LAYERS[layer]}.{tensor}"
    pair, _, part = layer.rpartition(".")
    for pattern, rename in _PAIRS:
        match = re.fullmatch(pattern, pair)
        if match and part in ("_conv", "_batch_norm"):
            before, choice, after = re.split(r"[{}]", rename(match))
            conv, _, norm = choice.partition("|")
            return f"{before}{conv if part == '_conv' else norm}{after}.{tensor}"
    return key
