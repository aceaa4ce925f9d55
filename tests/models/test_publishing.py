"""A network as a folder with a card, and on a hub that is a folder."""

import shutil
from pathlib import Path

import pytest
import torch

import polyscale
from polyscale.errors import UserError
from polyscale.labels import LabelClass, LabelSpace
from polyscale.models import ModelConfig, build_model, save_checkpoint

SPACE = LabelSpace(classes=tuple(LabelClass(name=name, color=(1, 2, 3)) for name in ("road", "a|b")))
FACTS = {"trained_on": "our streets", "licence": "CC BY 4.0", "score": "61.5 mIoU"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = ModelConfig.model_validate({"backbone": {"name": "tiny"}, "decoder": {"light_channels": 8}})
    save_checkpoint(tmp_path / "run/best.safetensors", build_model(config, SPACE), SPACE, {"miou": 0.4321})
    (tmp_path / "run/config.yaml").write_text(
        "data:\n  train: {kind: folder, root: /home/someone/mydata, split: train}\n  val: null\n"
        "model: {backbone: {pretrained: true}}\naugment: {crop: [64, 96]}\n"
    )
    return tmp_path / "run"


def test_a_saved_network_is_loaded_and_gives_the_same(run: Path, tmp_path: Path) -> None:
    network = polyscale.load(run, "cpu")
    folder = network.save_pretrained(tmp_path / "mine", FACTS)
    image = torch.rand(3, 40, 56)
    expected = network.predict(image).probabilities
    assert (polyscale.load(folder, "cpu").predict(image).probabilities == expected).all()
    assert dict(polyscale.load(folder, "cpu").info) == {"miou": 0.4321, **FACTS}


def test_the_card_says_what_is_known_and_what_is_not(run: Path, tmp_path: Path) -> None:
    card = (polyscale.save_pretrained(run, tmp_path / "mine") / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: polyscale\n")
    for row in (
        "| Trained on | mydata, train |",
        "| Resolution | crops of 64 x 96 |",
        "| Pretraining | backbone from ImageNet |",
        "| Score | 43.2 mIoU in validation |",
        "| Licence | not stated |",
        "| 1 | a\\|b |",
    ):
        assert row in card
    assert "someone" not in card, "a card names no path of the machine it was made on"
    card = (polyscale.save_pretrained(run, tmp_path / "mine", FACTS) / "README.md").read_text()
    assert "| Trained on | our streets |" in card
    assert "| Score | 61.5 mIoU |" in card


def test_a_pushed_network_is_loaded_by_its_name(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is a folder."""
    hub, made = tmp_path / "hub", []

    def create_repo(self: object, repository: str, *, private: bool, exist_ok: bool) -> None:
        made.append((repository, private, exist_ok))
        (hub / repository).mkdir(parents=True)

    def upload_folder(self: object, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        shutil.copytree(folder_path, hub / repo_id, dirs_exist_ok=True)

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", create_repo)
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload_folder)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repository, file: str(hub / repository / file))
    name = polyscale.push_to_hub(run, "me/streets", FACTS, private=True)
    assert (name, made) == ("hf://me/streets", [("me/streets", True, True)])
    assert 'polyscale.load("hf://me/streets")' in (hub / "me/streets/README.md").read_text()
    image = torch.rand(3, 40, 56)
    expected = polyscale.load(run, "cpu").predict(image).labels
    assert (polyscale.load(name, "cpu").predict(image).labels == expected).all()


def test_a_hub_that_refuses_is_told_in_one_line(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no connection\nat all")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    with pytest.raises(UserError, match=r"^the hub did not take me/streets \(no connection at all\); check") as error:
        polyscale.push_to_hub(run, "me/streets")
    assert "\n" not in str(error.value)


def test_a_network_without_a_configuration_is_refused(tmp_path: Path) -> None:
    config = ModelConfig.model_validate({"backbone": {"name": "tiny"}, "decoder": {"light_channels": 8}})
    model = build_model(config, SPACE)
    model.config = None
    with pytest.raises(UserError, match="only networks of a checkpoint"):
        polyscale.Predictor(model, SPACE, "cpu").save_pretrained(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
