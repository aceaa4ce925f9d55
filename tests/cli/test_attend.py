"""The command on a checkpoint that wraps somebody else's network."""

from pathlib import Path

import pytest
import torch

from polyscale.cli import main
from polyscale.data.streets import STREETS, write_streets
from polyscale.models import ModelConfig, build_model, save_checkpoint

CONV = {"in_channels": 3, "out_channels": 9, "kernel_size": 5, "padding": 2}


@pytest.mark.slow
def test_a_foreign_network_needs_trust(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    config = ModelConfig.model_validate(
        {"foreign": {"build": "torch.nn:Conv2d", "options": CONV}, "multiscale": {"method": "average"}}
    )
    save_checkpoint(tmp_path / "foreign.safetensors", build_model(config, STREETS), STREETS)
    write_streets(tmp_path / "data", {"train": 2, "val": 2}, size=(64, 80))
    arguments = ["attend", str(tmp_path / "foreign.safetensors"), str(tmp_path / "data"), "--device", "cpu"]
    settings = [
        "epochs=1",
        "batch_size=2",
        "scales=[0.5,1]",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*arguments, *settings]) == 2
    shown = capsys.readouterr().err
    assert "add --trust torch.nn:Conv2d" in shown
    assert shown.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert main([*arguments, *settings, "--trust", "torch.nn:Conv2d"]) == 0
    assert (tmp_path / "out/best.safetensors").is_file()
