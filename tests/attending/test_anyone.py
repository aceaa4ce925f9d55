"""``polyscale.attend`` around a network of somebody else."""

from pathlib import Path

import pytest
import torch
from torch import nn

from polyscale.attending import AttendConfig, attend
from polyscale.data import StreetsConfig, open_data
from polyscale.errors import UserError
from polyscale.models import load_checkpoint

SETTINGS = AttendConfig(epochs=1, channels=8, pixels=50, batch_size=16)
OPTIONS = {"in_channels": 3, "out_channels": 9, "kernel_size": 5, "padding": 2}
NONE, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def streets(split: str, count: int = 4):
    return open_data(StreetsConfig(count=count, size=(64, 72)), split)


def test_the_checkpoint_is_built_again_only_with_trust(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(**OPTIONS)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    result = attend(
        network, streets("train"), tmp_path, held_out=streets("val"), settings=SETTINGS, mean=NONE, std=ONE,
        build="torch.nn:Conv2d", options=OPTIONS, device="cpu",
    )  # fmt: skip
    assert result.best is not None
    with pytest.raises(UserError, match="needs torch.nn:Conv2d"):
        load_checkpoint(result.best)
    loaded = load_checkpoint(result.best, trust=["torch.nn:Conv2d"])
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    image = torch.rand(1, 3, 33, 47)
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(image).logits, result.network.eval()(image).logits)


def test_without_a_folder_it_stays_in_memory() -> None:
    result = attend(
        nn.Conv2d(**OPTIONS), streets("train"), held_out=streets("val"), settings={"epochs": 1, "pixels": 50},
        mean=NONE, std=ONE, device="cpu",
    )  # fmt: skip
    assert result.best is None
    assert result.predictor.predict(torch.rand(3, 20, 30)).labels.shape == (20, 30)


def test_other_classes_than_the_data_s_are_told(tmp_path: Path) -> None:
    network = nn.Conv2d(**{**OPTIONS, "out_channels": 5})
    with pytest.raises(UserError, match="the network gives 5 classes, and the data has 9"):
        attend(
            network, streets("train"), tmp_path, held_out=streets("val"), settings=SETTINGS, mean=NONE, std=ONE,
            device="cpu",
        )  # fmt: skip
