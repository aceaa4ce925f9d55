"""Which file a name stands for."""

from pathlib import Path

import pytest
import torch

import polyscale
from polyscale.errors import UserError
from polyscale.labels import LabelClass, LabelSpace
from polyscale.models import ModelConfig, build_model, finding, load_checkpoint, save_checkpoint
from polyscale.models.finding import find_network, names_network, shipped_networks

SPACE = LabelSpace(classes=tuple(LabelClass(name=name, color=(1, 2, 3)) for name in "ab"))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"backbone": {"name": "tiny"}, "decoder": {"light_channels": 8}})
    save_checkpoint(tmp_path / "run/last.safetensors", build_model(config, SPACE), SPACE)
    return tmp_path / "run"


def test_a_runs_folder_stands_for_its_best_network(run: Path) -> None:
    assert find_network(run) == run / "last.safetensors"
    (run / "best.safetensors").write_bytes((run / "last.safetensors").read_bytes())
    assert find_network(str(run)) == run / "best.safetensors"
    assert find_network(run / "last.safetensors") == run / "last.safetensors"


def test_an_address_is_no_missing_file() -> None:
    with pytest.raises(UserError, match="^https://example.com/net.safetensors is an address"):
        find_network(Path("https://example.com/net.safetensors"))


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder without a network"):
        find_network(tmp_path)
    with pytest.raises(UserError, match="no checkpoint at"):
        find_network("runs/none.safetensors")
    with pytest.raises(UserError, match=r"called 'stretes' \(did you mean 'streets'\?\).*camvid-lite0"):
        find_network("stretes")


def test_a_hub_is_asked_for_the_file(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that is a folder."""
    asked = []

    def fake(repository: str, file: str) -> str:
        asked.append((repository, file))
        if repository != "me/streets":
            raise OSError("offline")
        return str(run / "last.safetensors")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fake)
    assert find_network("hf://me/streets") == run / "last.safetensors"
    assert find_network(Path("hf://me/streets/other.safetensors")) == run / "last.safetensors"
    assert asked == [("me/streets", "model.safetensors"), ("me/streets", "other.safetensors")]
    with pytest.raises(UserError, match="hf://me/none gives no model.safetensors .offline.; check the name"):
        find_network("hf://me/none")


def test_networks_ship_and_work() -> None:
    networks = {item.name: item for item in shipped_networks()}
    assert "camvid-lite0" in networks
    for item in networks.values():
        assert item.file.stat().st_size <= 8_000_000
        assert {"score", "split", "licence", "trained_on", "pretraining", "resolution"} <= set(item.info)
    predictor = polyscale.load("streets", "cpu")
    assert predictor.predict(torch.rand(3, 40, 56), scales=(1,)).labels.shape == (40, 56)


def test_half_precision_halves_the_file(run: Path, tmp_path: Path) -> None:
    whole = load_checkpoint(run)
    save_checkpoint(tmp_path / "half.safetensors", whole.model, SPACE, half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * (run / "last.safetensors").stat().st_size
    for name, value in load_checkpoint(tmp_path / "half.safetensors").model.state_dict().items():
        assert value.dtype == whole.model.state_dict()[name].dtype
        torch.testing.assert_close(value, whole.model.state_dict()[name], rtol=1e-3, atol=1e-3)


def test_arguments_that_name_networks(run: Path) -> None:
    assert finding.SHORT["streets"] == "camvid-lite0"
    assert all(names_network(text) for text in ("a.safetensors", "b.onnx", "streets", "hf://me/x", str(run)))
    assert not any(names_network(text) for text in ("photo.jpg", "photos", str(run.parent)))
