"""From a configuration to a run's parts: what is told before the first step, and synchronised batch norms."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from polyscale.backbones import BackboneConfig
from polyscale.config import validate
from polyscale.decoders import DecoderConfig
from polyscale.errors import UserError
from polyscale.labels import LabelClass, LabelSpace
from polyscale.models import ModelConfig, MultiScaleConfig, build_model
from polyscale.training import ExperimentConfig, train
from polyscale.training.listener import Silent
from polyscale.training.setup import freeze_unused, synchronise_batchnorm


@pytest.fixture
def other(squares: Path, tmp_path: Path) -> Path:
    """A copy of the data, to be spoilt."""
    return Path(shutil.copytree(squares, tmp_path / "other"))


def test_validation_data_of_other_classes_are_told_before_the_first_step(
    recipe: dict[str, Any], other: Path, tmp_path: Path
) -> None:
    """Two classes are exchanged, so that their number alone would not tell."""
    names = ("a", "c", "b")
    LabelSpace(classes=tuple(LabelClass(name=n, color=(9, 9, i)) for i, n in enumerate(names))).to_yaml(
        other / "label_space.yaml"
    )
    recipe["data"]["val"]["root"] = str(other)
    with pytest.raises(UserError, match="class 1 is 'b', in the data 'c'"):
        train(validate(ExperimentConfig, recipe), tmp_path / "run")
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_an_optional_mask_that_is_missing_is_told_before_the_first_step(
    recipe: dict[str, Any], other: Path, tmp_path: Path
) -> None:
    (other / "masks/train/03.png").unlink()
    recipe["data"]["train"] |= {"root": str(other), "masks": "optional"}
    with pytest.raises(UserError, match="1 of 10 training images have no mask, such as 03"):
        train(validate(ExperimentConfig, recipe), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unknown_backbone_is_told_before_the_files_are_read(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["model"]["backbone"]["name"] = "resnet5000"
    with pytest.raises(UserError, match="resnet5000"):
        train(validate(ExperimentConfig, recipe), tmp_path / "run")
    assert not (tmp_path / "run").exists(), "the cache of files found good"


@pytest.mark.parametrize("checkpointing", [False, True])
def test_synchronised_batchnorm_computes_the_same(checkpointing: bool) -> None:
    """Evaluation mode needs no second process. The norms of this backbone hold its activations."""
    torch.manual_seed(0)
    config = ModelConfig(
        backbone=BackboneConfig(name="mobilenetv3_small_050", checkpointing=checkpointing),
        decoder=DecoderConfig(light_channels=8),
        multiscale=MultiScaleConfig(method="single"),
    )
    model = build_model(config, 3).eval()
    images = torch.rand(1, 3, 40, 56)
    parameters = list(model.parameters())
    with torch.inference_mode():
        before = model(images).logits
        synchronise_batchnorm(model)
        after = model(images).logits
    assert torch.equal(before, after)
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True)), "the optimiser's are others"
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    # Checkpointing computes activations twice and must count their statistics once: hooks see to that.
    inside = {id(module) for module in model.parts()["backbone"].modules()}
    assert all(bool(norm._forward_pre_hooks) == checkpointing for norm in norms if id(norm) in inside)


def test_parameters_that_no_loss_reaches_are_frozen() -> None:
    """DeepLabV3+ reads the finest and the coarsest of HRNet's four branches."""
    decoder = DecoderConfig(kind="deeplabv3plus", aspp_channels=8)
    model = build_model(ModelConfig(backbone=BackboneConfig(name="hrnet_w18_small"), decoder=decoder), 3)
    freeze_unused(model)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    ends = ("stage4.0.fuse_layers.1.", "stage4.0.fuse_layers.2.")
    assert frozen == {name for name, _ in model.named_parameters() if any(end in name for end in ends)}
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("method", ["hierarchical", "single", "average", "explicit"])
def test_parameters_that_a_loss_reaches_are_not_frozen(method: Any) -> None:
    decoder = DecoderConfig(kind="ocr", ocr_channels=8, ocr_key_channels=8)
    config = ModelConfig(
        backbone=BackboneConfig(name="tiny"), decoder=decoder, multiscale=MultiScaleConfig(method=method)
    )
    model = build_model(config, 3)
    freeze_unused(model)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        (None, "seed", 2**63, "seed: "),
        (None, "name", "../up", "name: it also names the run's folder"),
        (None, "name", "", "name: it also names the run's folder"),
        ("validation", "scales", [1, 0], "validation.scales: scales must be positive"),
        ("validation", "scales", [0.5, 2], "validation.scales: scales must contain 1"),
        ("validation", "scales", [1, 1000], "validation.scales: scales must be at most 16"),
        ("training", "optimizer", {"betas": [0.9, 1.0]}, "training.optimizer.betas.1: "),
        ("model", "decoder", {"kind": "deeplabv3", "aspp_rates": [6, 0]}, "model.decoder.aspp_rates.1: "),
    ],
)
def test_values_that_would_fail_later_are_told_with_their_key(
    recipe: dict[str, Any], section: str | None, key: str, value: Any, message: str
) -> None:
    (recipe if section is None else recipe[section])[key] = value
    with pytest.raises(UserError) as caught:
        validate(ExperimentConfig, recipe)
    assert str(caught.value).startswith(message)


def test_data_are_named_by_their_key_and_copies_are_told(squares: Path, recipe: dict[str, Any], tmp_path: Path) -> None:
    class Said(Silent):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def said(self, message: str) -> None:
            self.lines.append(message)

    recipe["training"] |= {"epochs": 1}
    recipe["data"]["val"]["split"] = "train"
    listener = Said()
    train(validate(ExperimentConfig, recipe), tmp_path / "a", listener=listener)
    assert "10 of 10 validation images are training images too: the scores flatter" in listener.lines
    recipe["data"]["val"]["root"] = str(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"^data\.val: no such data folder"):
        train(validate(ExperimentConfig, recipe), tmp_path / "b")
