"""Every tensor of every golden network finds its place, by name and shape."""

import json
from pathlib import Path

import pytest
import torch

from polyscale.errors import UserError
from polyscale.models.reference import load_reference
from polyscale.models.reference.names import our_name

EXAMPLES = {
    ("backbone.layer0.0.weight", "timm", "deeplabv3plus", None): "segmenter.backbone.body.conv1.weight",
    ("backbone.layer3.0.bn2.bias", "timm", "deeplabv3plus", None): "segmenter.backbone.body.layer3.0.bn2.bias",
    ("trunk.mod2.block1.bn1.0.bias", "ours", "deeperlab", None): "segmenter.backbone.mod2.block1.bn1.0.bias",
    ("conv_up3.bn.running_var", "ours", "deeperlab", None): "segmenter.decoder.joins.1.1.running_var",
    ("aspp.features.3.0.weight", "timm", "deeplabv3plus", None): "segmenter.decoder.aspp.branches.3.0.weight",
    ("aspp.e.1.bias", "timm", "deeplabv3plus", None): "segmenter.decoder.aspp.branches.4.1.bias",
    ("final.6.weight", "timm", "deeplabv3plus", None): "segmenter.decoder.classifier.weight",
    ("scale_attn.conv2.weight", "timm", "ocr", "segmenter.attention"): "segmenter.attention.6.weight",
    ("scale_attn.4.weight", "timm", "deeplabv3plus", "head"): "head.4.weight",
    ("ocr.ocr_distri_head.object_context_block.f_object.3.0.weight", "timm", "ocr", None): (
        "segmenter.decoder.attention.key.1.1.weight"
    ),
    ("ocr.other.weight", "timm", "ocr", None): None,
    ("final.60.weight", "timm", "deeplabv3plus", None): None,
    ("scale_attn.conv0.weight", "timm", "ocr", None): None,
    ("scale_attn.conv9.weight", "timm", "ocr", "head"): "head.conv9.weight",
}


@pytest.mark.parametrize(("given", "expected"), EXAMPLES.items(), ids=[given[0] for given in EXAMPLES])
def test_names(given: tuple[str, str, str, str | None], expected: str | None) -> None:
    key, backbone, decoder, attention = given
    assert our_name(key, backbone == "timm", decoder, attention) == expected


def empty_state(golden: Path, case: str) -> tuple[dict[str, torch.Tensor], dict]:
    manifest = json.loads((golden / "manifests" / f"{case}.json").read_text())
    kinds = {True: torch.int64, False: torch.float32}
    state = {
        key: torch.zeros(1, dtype=kinds[key.endswith("num_batches_tracked")]).expand(shape).clone()
        if shape
        else torch.zeros((), dtype=kinds[key.endswith("num_batches_tracked")])
        for key, shape in manifest["state_dict"]
    }
    return state, manifest


CASES = {
    "mscale2_r50_two": ("hierarchical", "resnet50", "deeplabv3plus"),
    "attnscale_r50_05_10_20": ("explicit", "resnet50", "deeplabv3plus"),
    "deepv3plus_x71": ("single", "aligned_xception71", "deeplabv3plus"),
}
SLOW = {
    "ocrnet_hrnet_mscale_two": ("hierarchical", "hrnet_w48", "ocr"),
    "ocrnet_hrnet": ("single", "hrnet_w48", "ocr"),
    "mscale_r50_two": ("hierarchical", "resnet50", "deeplabv3plus"),
    "attnscale_r50b_05_10_20": ("explicit", "resnet50", "deeplabv3plus"),
    "deepv3plus_r50": ("single", "resnet50", "deeplabv3plus"),
    "deepv3plus_w38": ("single", "wide_resnet38", "deeplabv3plus"),
    "deeper_w38": ("single", "wide_resnet38", "deeperlab"),
    "deeper_x71": ("single", "aligned_xception71", "deeperlab"),
}


@pytest.mark.parametrize(
    ("case", "expected"),
    [*CASES.items(), *(pytest.param(case, value, marks=pytest.mark.slow) for case, value in SLOW.items())],
)
def test_each_network_is_built_from_its_tensors_alone(golden: Path, case: str, expected: tuple[str, str, str]) -> None:
    state, manifest = empty_state(golden, case)
    model = load_reference(state, case)
    config = model.config
    assert (config.multiscale.method, config.backbone.name, config.decoder.kind) == expected
    assert sum(parameter.numel() for parameter in model.parameters()) == manifest["total_params"]
    assert config.multiscale.attention.source == ("pair" if case.startswith("mscale2") else "scale")
    assert config.multiscale.attention.batch_norm == (case != "attnscale_r50_05_10_20")
    assert model(torch.zeros(1, 3, 33, 33)).logits.shape[1] == 19
    assert not model.training
    assert model.segmenter.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


def test_a_dense_prediction_cell_is_known_by_its_branches(golden: Path) -> None:
    state, _ = empty_state(golden, "deepv3plus_r50")
    state = {key: value for key, value in state.items() if not key.startswith("aspp.")}
    for letter in "abcde":
        state[f"aspp.{letter}.0.weight"] = torch.zeros(256, 2048 if letter == "a" else 256, 3, 3)
        for name in ("weight", "bias", "running_mean", "running_var"):
            state[f"aspp.{letter}.1.{name}"] = torch.zeros(256)
    assert load_reference(state, "dpc.pth").config.decoder.pyramid == "dpc"


def test_leftovers_on_either_side_are_named(golden: Path) -> None:
    state, _ = empty_state(golden, "deepv3plus_x71")
    del state["bot_aspp.weight"]
    state["edge.weight"] = torch.zeros(1)
    state["final.1.bias"] = torch.zeros(7)
    with pytest.raises(UserError) as caught:
        load_reference(state, "x71.pth")
    message = str(caught.value)
    assert message.startswith("x71.pth has tensors without a place here: edge.weight; lacks: ")
    assert "lacks: segmenter.decoder.bottleneck.weight;" in message
    assert "final.1.bias (7,) instead of (256,)" in message
    assert "\n" not in message


def test_counters_that_old_files_lack_are_zero(golden: Path) -> None:
    state, _ = empty_state(golden, "deepv3plus_x71")
    model = load_reference({key: value for key, value in state.items() if "num_batches" not in key}, "x71.pth")
    assert model.segmenter.decoder.head[0][1].num_batches_tracked == 0


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["features.0.weight"], "no tensor of a backbone"),
        (["backbone.patch_embed.weight"], "its backbone is none of those known here"),
        (["backbone.transition1.0.0.weight", "head.weight"], "none of the decoders"),
    ],
)
def test_other_networks_are_told_in_one_line(keys: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_reference({key: torch.zeros(48, 1, 1, 1) for key in keys}, "file.pth")
