"""A checkpoint as the start of another network."""

from pathlib import Path
from typing import Any

import pytest
import torch

from polyscale.config import validate
from polyscale.errors import UserError
from polyscale.labels import LabelClass, LabelSpace
from polyscale.models import ModelConfig, build_model, save_checkpoint
from polyscale.models.start import start_from
from polyscale.multiscale import MultiScale


def build(method: str, num_classes: int, seed: int, **backbone: Any) -> MultiScale:
    config = {
        "backbone": {"name": "tiny"} | backbone,
        "decoder": {"kind": "light", "light_channels": 8},
        "multiscale": {"method": method, "attention": {"channels": 4}},
    }
    torch.manual_seed(seed)
    return build_model(validate(ModelConfig, config), num_classes)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    space = LabelSpace(classes=tuple(LabelClass(name=name, color=(1, 2, 3)) for name in "abc"))
    save_checkpoint(tmp_path / "one.safetensors", build("single", 3, seed=0), space)
    return tmp_path / "one.safetensors"


def test_one_scale_starts_a_hierarchical_network_of_other_classes(checkpoint: Path) -> None:
    origin, model = build("single", 3, seed=0).state_dict(), build("hierarchical", 5, seed=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    start = start_from(model, checkpoint)
    assert all(".attention." in name or ".classifier." in name for name in start.new)
    assert any(".classifier." in name for name in start.new)
    assert start.num_taken + len(start.new) == len(before)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name] if name in start.new else origin[name])


def test_another_backbone_is_refused(checkpoint: Path) -> None:
    model = build("single", 3, seed=1, name="resnet18")
    with pytest.raises(UserError, match="holds the backbone 'tiny', which does not fit 'resnet18' here"):
        start_from(model, checkpoint)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    broken = build("single", 3, seed=0)
    next(broken.parameters()).data.fill_(float("nan"))
    space = LabelSpace(classes=tuple(LabelClass(name=name, color=(1, 2, 3)) for name in "abc"))
    save_checkpoint(tmp_path / "nan.safetensors", broken, space)
    model = build("single", 3, seed=1)
    with pytest.raises(UserError, match="holds weights that are not finite"):
        start_from(model, tmp_path / "nan.safetensors")
    assert all(bool(value.isfinite().all()) for value in model.state_dict().values())
