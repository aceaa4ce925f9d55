"""Other projects' names: an HRNet-W18 under each of them is the same network."""

import re
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

from polyscale.errors import UserError
from polyscale.models.reference.layouts import to_reference
from polyscale.models.reference.load import load_reference
from polyscale.multiscale import MultiScale

State = dict[str, Tensor]


def hrnet_ocr_names(state: State) -> State:
    """HRNet-OCR's: everything in a wrapper with the training loss, norms outside of the context without a sequence."""
    renamed = {}
    for key, value in state.items():
        key = key.removeprefix("backbone.").removeprefix("ocr.")
        key = re.sub(r"^(conv3x3_ocr|aux_head)\.1\.0\.", r"\1.1.", key)
        renamed[f"model.{re.sub(r'^aux_head.2', 'aux_head.3', key)}"] = value
    return renamed | {"loss.criterion.weight": torch.ones(19)}


def paddle_trunk() -> dict[str, str]:
    """The trunk's layers: the authors' name -> PaddleSeg's, which counts from one."""
    table = {}

    def pair(conv: str, norm: str, name: str) -> None:
        table[f"backbone.{conv}"] = f"ocrnet.backbone.{name}._conv"
        table[f"backbone.{norm}"] = f"ocrnet.backbone.{name}._batch_norm"

    for number in (1, 2):
        pair(f"conv{number}", f"bn{number}", f"conv_layer1_{number}")
    for block in range(4):
        theirs = f"la1.bb_layer2_{block + 1}"
        for conv in (1, 2, 3):
            pair(f"layer1.{block}.conv{conv}", f"layer1.{block}.bn{conv}", f"{theirs}.conv{conv}")
        pair(f"layer1.{block}.downsample.0", f"layer1.{block}.downsample.1", f"{theirs}.conv_down")
    for transition, branch, inner in ((1, 0, ""), (1, 1, ".0"), (2, 2, ".0"), (3, 3, ".0")):
        ours = f"transition{transition}.{branch}{inner}"
        pair(f"{ours}.0", f"{ours}.1", f"tr{transition}.transition_tr{transition}_layer_{branch + 1}")
    for stage, module in [(2, 0), *((3, module) for module in range(4)), *((4, module) for module in range(3))]:
        ours, label = f"stage{stage}.{module}", f"st{stage}_{module + 1}"
        theirs = f"st{stage}.stage_{label}"
        for i, block, conv in product(range(stage), range(4), (1, 2)):
            at = f"{ours}.branches.{i}.{block}"
            name = f"{theirs}.branches_func.bb_{label}_branch_layer_{i + 1}_{block + 1}.conv{conv}"
            pair(f"{at}.conv{conv}", f"{at}.bn{conv}", name)
        for i, j in product(range(stage), range(stage)):
            at, name = f"{ours}.fuse_layers.{i}.{j}", f"{theirs}.fuse_func.residual_{label}_layer_{i + 1}_{j + 1}"
            pair(f"{at}.0", f"{at}.1", name)
            for k in range(i - j):
                pair(f"{at}.{k}.0", f"{at}.{k}.1", f"{name}_{k + 1}")
    return table


def paddle_heads() -> dict[str, str]:
    """The same for decoder and attention."""
    head, block = "ocrnet.head", "ocrnet.head.spatial_ocr.attention_block"
    context = "ocr.ocr_distri_head.object_context_block"
    pairs = {"ocr.conv3x3_ocr": f"{head}.conv3x3_ocr", "ocr.aux_head": f"{head}.aux_head.0"}
    pairs |= {"ocr.ocr_distri_head.conv_bn_dropout": f"{head}.spatial_ocr.conv1x1.0"}
    pairs |= {f"{context}.f_down": f"{block}.f_down", f"{context}.f_up": f"{block}.f_up"}
    table = {f"{ours}.0": f"{theirs}._conv" for ours, theirs in pairs.items()}
    table |= {f"{ours}.1.0": f"{theirs}._batch_norm" for ours, theirs in pairs.items()}
    for name, i in product(("f_pixel", "f_object"), (0, 1)):
        table[f"{context}.{name}.{2 * i}"] = f"{block}.{name}.{i}._conv"
        table[f"{context}.{name}.{2 * i + 1}.0"] = f"{block}.{name}.{i}._batch_norm"
    table |= {"ocr.cls_head": f"{head}.cls_head", "ocr.aux_head.2": f"{head}.aux_head.1"}
    for i in (0, 1):
        table[f"scale_attn.conv{i}"] = f"scale_attn.atten_head.{i}._conv"
        table[f"scale_attn.bn{i}"] = f"scale_attn.atten_head.{i}._batch_norm"
    return table | {"scale_attn.conv2": "scale_attn.atten_head.2"}


def paddle_names(state: State) -> State:
    """PaddleSeg's MscaleOCRNet."""
    table = paddle_trunk() | paddle_heads()
    statistics = {"running_mean": "_mean", "running_var": "_variance"}
    renamed = {}
    for key, value in state.items():
        layer, _, tensor = key.rpartition(".")
        if tensor != "num_batches_tracked":
            renamed[f"{table[layer]}.{statistics.get(tensor, tensor)}"] = value
    return renamed


def plain_paddle_names(state: State) -> State:
    """PaddleSeg's OCRNet, whose convolutions all have a bias; here each raises its norm's mean by as much."""
    state = {key.removeprefix("ocrnet."): value for key, value in paddle_names(state).items()}
    for key in [key for key in state if key.startswith("head.") and key.endswith("._conv.weight")]:
        bias, mean = key.replace("weight", "bias"), key.replace("_conv.weight", "_batch_norm._mean")
        if bias not in state:
            state[bias] = torch.linspace(-1, 1, len(state[key]))
            state[mean] = state[mean] + state[bias]
    return state


@pytest.mark.parametrize(
    ("names", "attention", "exact"),
    [
        (dict, True, True),
        (dict, False, True),
        (paddle_names, True, True),
        (hrnet_ocr_names, False, False),
        (plain_paddle_names, False, False),
    ],
)
def test_the_network_is_the_same(
    model: MultiScale, reference_state: State, names: Callable[[State], State], attention: bool, exact: bool
) -> None:
    stored = names({key: value for key, value in reference_state.items() if attention or "scale_attn" not in key})
    layout = to_reference({f"module.{key}": value for key, value in stored.items()}, "file.pth")
    loaded = load_reference(layout.state, "file.pth", mean=layout.mean, std=layout.std)
    assert layout.exact == exact
    own = model.state_dict()
    for name, value in loaded.state_dict().items():
        if not name.endswith(("num_batches_tracked", "segmenter.mean", "segmenter.std")):
            torch.testing.assert_close(value, own[name], msg=name)


def test_an_unknown_name_of_paddles_stays_and_is_refused(reference_state: State) -> None:
    stored = paddle_names(reference_state)
    stored["ocrnet.head.psa.conv._conv.weight"] = torch.zeros(1, 1, 1, 1)
    with pytest.raises(UserError, match=r"without a place here: head\.psa\.conv\._conv\.weight"):
        load_reference(to_reference(stored, "file").state, "file")


@pytest.mark.parametrize("head", ["classifier.weight", "last_layer.0.weight"])
def test_hrnet_without_ocr_is_sent_to_the_backbone(reference_state: State, head: str) -> None:
    state = {key: value for key, value in hrnet_ocr_names(reference_state).items() if "ocr" not in key}
    with pytest.raises(UserError, match=r"give the file itself: model\.backbone\.pretrained"):
        to_reference(state | {f"model.{head}": torch.zeros(1)}, "hrnet.pth")
