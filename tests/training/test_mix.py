"""Training on several sources: what a mix changes, what it leaves as it was, resume, and what its config refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from polyscale.config import validate
from polyscale.crops import AugmentConfig, Draw, MixConfig, open_training_data
from polyscale.crops.loader import Key, TrainingCrops, build_loader
from polyscale.data import open_data
from polyscale.errors import UserError
from polyscale.losses import inverse_log_weights
from polyscale.training import ExperimentConfig, train
from polyscale.training.listener import Silent
from polyscale.training.records import RunLog
from polyscale.training.sampling import class_weights, pixel_counts

LEVELS = [0.0, 0.25, 0.5, 1.0]


def losses(folder: Path) -> dict[int, float]:
    return {line["step"]: line["loss"]["total"] for line in RunLog.read(folder / "log.jsonl") if "loss" in line}


@pytest.fixture
def auto(squares: Path, tmp_path: Path) -> Path:
    """The training images again, as an auto-labelled folder with confidence maps."""
    root = tmp_path / "auto"
    for kind in ("images", "masks"):
        shutil.copytree(squares / kind / "train", root / kind)
    shutil.copy(squares / "label_space.yaml", root)
    rng = np.random.default_rng(5)
    (root / "confidence").mkdir()
    for path in (root / "masks").iterdir():
        Image.fromarray(rng.integers(0, 4, (40, 56), np.uint8)).save(root / "confidence" / path.name)
    description = {"confidence_levels": LEVELS, "confidence_stride": 1, "settings": {"coarse_labels": None}}
    (root / "autolabel.json").write_text(json.dumps(description))
    return root


@pytest.fixture
def mixed(recipe: dict[str, Any], auto: Path) -> dict[str, Any]:
    """The recipe with two sources, two epochs, no validation."""
    fine = recipe["data"]["train"]
    sources = {"fine": {"data": {**fine, "include": ["0[0-5]"]}}, "auto": {"data": str(auto)}}
    recipe["data"] = {"train": {"kind": "mix", "sources": sources}}
    recipe["training"] |= {"epochs": 2, "ema_decay": None}
    return recipe


def source(values: dict[str, Any], **changes: Any) -> ExperimentConfig:
    """The recipe with changes to its second source."""
    values["data"]["train"]["sources"]["auto"] |= changes
    return validate(ExperimentConfig, values)


def test_a_mix_of_one_source_trains_to_the_same_losses_as_the_data_set_by_itself(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    recipe["data"].pop("val")
    recipe["training"] |= {"epochs": 1}
    train(validate(ExperimentConfig, recipe), tmp_path / "plain")
    recipe["data"]["train"] = {"kind": "mix", "sources": {"only": {"data": recipe["data"]["train"]}}}
    train(validate(ExperimentConfig, recipe), tmp_path / "mix")
    assert losses(tmp_path / "mix") == losses(tmp_path / "plain")


def test_an_epoch_holds_as_many_of_each_and_a_resume_continues_to_the_same_losses(
    mixed: dict[str, Any], tmp_path: Path
) -> None:
    """With weights, confidence, boosts, and an end of the automatic labels: nothing of it is state."""
    config = source(mixed, weight=0.5, confidence_power=1.0, until_epoch=1, boost={"b": 2.0})

    class Watch(Silent):
        def __init__(self, stop: int) -> None:
            self.stop, self.heard = stop, [""]

        def said(self, message: str) -> None:
            self.heard.append(message)

        def stepped(self, step: int, loss: float) -> None:
            if step == self.stop:
                raise KeyboardInterrupt

    watch = Watch(-1)
    train(config, tmp_path / "whole", listener=watch)
    assert "an epoch of 12 crops mixes fine 6 (6 images), auto 6 (10 images, until epoch 1)" in watch.heard
    assert list(losses(tmp_path / "whole")) == list(range(1, 13))
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "killed", listener=Watch(8))
    train(config, tmp_path / "killed", resume=True)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


def test_weights_and_confidence_reach_the_loss(mixed: dict[str, Any], tmp_path: Path) -> None:
    mixed["training"] |= {"epochs": 1}
    changes: dict[str, dict[str, Any]] = {
        "none": {},
        "weight": {"weight": 0.1},
        "confidence": {"confidence_power": 1.0},
    }
    first = {}
    for name, change in changes.items():
        values = json.loads(json.dumps(mixed))
        train(source(values, **change), tmp_path / name)
        first[name] = losses(tmp_path / name)[1]
    assert len(set(first.values())) == 3, first


def test_a_crops_weights_lie_on_the_pixels_of_its_labels(auto: Path, squares: Path) -> None:
    """Confidence is made equal to the label here, so that each can be told from the other."""
    for path in (auto / "masks").iterdir():
        labels = np.asarray(Image.open(path))
        Image.fromarray(np.where(labels < 3, labels + 1, 0).astype(np.uint8)).save(auto / "confidence" / path.name)
    data = {"kind": "folder", "root": str(squares), "split": "train"}
    sources = {"fine": {"data": data}, "auto": {"data": str(auto), "weight": 0.5, "confidence_power": 1}}
    mix = open_training_data(validate(MixConfig, {"sources": sources}))
    crops = TrainingCrops(mix, AugmentConfig(crop=(48, 40), scale=(0.5, 2.0), rand_augment=2), seed=1)
    table = torch.zeros(256)
    table[:3] = 0.5 * torch.tensor(LEVELS[1:])
    for position in range(8):
        crop = crops[Key(0, Draw(10 + position, (20, 20), position))]
        assert crop.weights is not None
        inside = crop.labels != 255
        assert torch.equal(crop.weights[inside], table[crop.labels[inside]])
        fine = crops[Key(0, Draw(position, None, position))]
        assert fine.weights is not None
        assert torch.equal(fine.weights, torch.ones(48, 40))
    plan: Any = [[Key(0, Draw(place, None, place)) for place in (3, 12)]]
    (batch,) = build_loader(crops, plan, 0, pin_memory=False)
    assert batch.weights.shape == batch.labels.shape == (2, 48, 40)


def test_class_weights_count_pixels_as_often_as_the_mix_draws_them(mixed: dict[str, Any], auto: Path) -> None:
    mixed["loss"]["class_weights"] = "inverse-log"
    config = source(mixed, ratio=2.0)
    assert isinstance(config.data.train, MixConfig)
    got = class_weights(config.loss, open_training_data(config.data.train))
    fine = open_data(config.data.train.sources["fine"].data)
    expected = inverse_log_weights(pixel_counts(fine) / 6 + 2 * pixel_counts(open_data(auto)) / 10)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("sampling", {"fraction": 0.0}, "boost of source 'auto' is about class-uniform sampling, which is off"),
        ("loss", {"main": "rmi"}, "confidence_power weighs single pixels, which loss rmi cannot"),
        ("training", {"epochs": 1}, "until_epoch of source 'auto' is 1, but training ends after 1 epochs"),
    ],
)
def test_keys_that_would_change_nothing_or_cannot_be_are_refused(
    mixed: dict[str, Any], section: str, change: dict[str, Any], message: str
) -> None:
    mixed[section] |= change
    with pytest.raises(UserError, match=message):
        source(mixed, boost={"b": 2.0}, confidence_power=1.0, until_epoch=1)


def test_a_mix_trains_with_rmi_by_weights_of_sources(mixed: dict[str, Any], tmp_path: Path) -> None:
    mixed["loss"] = {"main": "rmi"}
    mixed["training"] |= {"epochs": 1}
    result = train(source(mixed, weight=0.5), tmp_path)
    assert result.steps == 6


def test_images_without_mask_are_named_with_their_source(mixed: dict[str, Any], auto: Path, tmp_path: Path) -> None:
    (auto / "masks/03.png").unlink()
    with pytest.raises(UserError, match=r"training images have no mask, such as auto/03"):
        train(source(mixed, data={"kind": "folder", "root": str(auto), "masks": "optional"}), tmp_path / "run")
