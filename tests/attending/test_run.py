"""Attention learnt afterwards, on views of a network whose trust is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyscale.attending import AttendConfig, attend_network
from polyscale.attending import run as module
from polyscale.attending.controls import controls
from polyscale.attending.learn import scale_sets
from polyscale.baselines import AveragePooling, average_logits, average_probabilities
from polyscale.data import StreetsConfig, open_data
from polyscale.data.streets import STREETS
from polyscale.errors import UserError
from polyscale.models import ModelConfig, MultiScaleConfig, build_model
from polyscale.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from polyscale.views import View, look

TINY: dict[str, Any] = {"backbone": {"name": "tiny"}, "decoder": {"kind": "light", "light_channels": 8}}
SETTINGS = AttendConfig(epochs=1, channels=8, variants=2, batch_size=2)


def streets(count: int, split: str = "train") -> Any:
    return open_data(StreetsConfig(count=count, size=(64, 96)), split)


@pytest.fixture
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    config = ModelConfig.model_validate(TINY | {"multiscale": {"method": "average"}})
    return Checkpoint(build_model(config, STREETS).eval(), config, STREETS)


def test_the_segmenter_stays_bit_identical_and_the_result_loads(checkpoint: Checkpoint, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in checkpoint.model.segmenter.state_dict().items()}
    result = attend_network(checkpoint, streets(4), streets(3, "val"), tmp_path, SETTINGS, "cpu")
    loaded = load_checkpoint(result.best)
    assert all(torch.equal(value, before[name]) for name, value in loaded.model.segmenter.state_dict().items())
    assert loaded.model.eval_scales == (2.0, 1.0, 0.5)
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        one, other = (look(model.segmenter, image, 1.0).logits for model in (checkpoint.model.eval(), loaded.model))
    assert torch.equal(one, other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attend.json", "best.safetensors"]


def test_what_does_not_beat_averaging_is_not_kept(checkpoint: Checkpoint, tmp_path: Path, monkeypatch: Any) -> None:
    def spoil(model: Any, *_: Any) -> None:
        torch.nn.init.normal_(model.head.layers[-1].weight, std=100)

    monkeypatch.setattr(module, "learn", spoil)
    result = attend_network(checkpoint, streets(4), streets(6, "val"), tmp_path, SETTINGS, "cpu")
    assert not result.judgement.keep
    assert isinstance(load_checkpoint(result.best).model, AveragePooling)


def test_it_learns_to_trust_the_right_scale(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A segmenter that is right at scale 1 and noisy elsewhere: averaging loses what attention finds."""
    data = streets(8)
    settings = AttendConfig(epochs=25, channels=16, variants=1, batch_size=2, lr=1e-2, scales=(0.5, 1.0))

    def known(self: Any, index: int, variant: int) -> dict[str, torch.Tensor]:
        sample = self.data.read(index)
        assert sample.labels is not None
        labels = torch.from_numpy(sample.labels)
        truth = torch.nn.functional.one_hot(labels.clamp(max=8).long(), 9).permute(2, 0, 1)[None].float()
        wrong = truth.roll(1, 1)
        grid = torch.nn.functional.interpolate(wrong, size=(8, 12))
        full = torch.nn.functional.interpolate(truth, size=(16, 24))
        return {"labels": labels, "1": (2 * full).half(), "0.5": (3 * grid).half()}

    monkey = pytest.MonkeyPatch()
    monkey.setattr("polyscale.attending.views.CachedViews._look", known)
    try:
        result = attend_network(checkpoint, data, streets(4, "val"), tmp_path, settings, "cpu")
    finally:
        monkey.undo()
    scores = result.judgement.mean_iou
    assert scores["attention"] > scores["average of logits"] + 0.1
    assert result.judgement.keep


def test_a_run_that_was_stopped_ends_the_same(checkpoint: Checkpoint, tmp_path: Path, monkeypatch: Any) -> None:
    whole = attend_network(checkpoint, streets(4), streets(3, "val"), tmp_path / "whole", SETTINGS, "cpu")
    looks: list[int] = []

    def stop(what: str, done: int, total: int) -> None:
        looks.append(done)
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attend_network(checkpoint, streets(4), streets(3, "val"), tmp_path / "cut", SETTINGS, "cpu", stop)
    files = sorted((tmp_path / "cut").rglob("*.safetensors"))
    assert len(files) == 5
    files[0].write_bytes(files[0].read_bytes()[:50])  # damaged by a full disk, say
    again = attend_network(checkpoint, streets(4), streets(3, "val"), tmp_path / "cut", SETTINGS, "cpu")
    assert again.judgement == whole.judgement
    first, second = (load_checkpoint(result.best).model.state_dict() for result in (whole, again))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_views_that_do_not_fit_on_disk_are_looked_at_again(checkpoint: Checkpoint, tmp_path: Path) -> None:
    none = SETTINGS.model_copy(update={"cache_gigabytes": 0.0})
    first = attend_network(checkpoint, streets(4), streets(3, "val"), tmp_path / "a", none, "cpu")
    second = attend_network(checkpoint, streets(4), streets(3, "val"), tmp_path / "b", SETTINGS, "cpu")
    assert first.judgement == second.judgement


def test_controls_stand_beside_it(checkpoint: Checkpoint, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"controls": True})
    scores = attend_network(checkpoint, streets(4), streets(3, "val"), tmp_path, settings, "cpu").judgement.mean_iou
    assert {"one weight per class and scale", "temperature per scale", "scale 1 recalibrated", "oracle"} <= set(scores)
    assert scores["oracle"] >= max(scores.values()) - 1e-9


@pytest.mark.parametrize("scales", [(0.5, 1.0, 2.0), (1.0, 2.0)])
def test_controls_start_as_an_average_or_scale_one(scales: tuple[float, ...]) -> None:
    views = {s: View(torch.randn(2, 5, 6, 8)) for s in scales}
    weights, temperatures, recalibration = controls(5, (0.5, 1.0, 2.0), 8)
    torch.testing.assert_close(weights.fuse(views, (6, 8)).logits, average_logits(views))
    torch.testing.assert_close(temperatures.fuse(views, (6, 8)).logits.softmax(1), average_probabilities(views))
    torch.testing.assert_close(recalibration.eval().fuse(views, (6, 8)).logits, views[1.0].logits)


def test_neighbours_are_held_out_together() -> None:
    taught, held = module.hold_out(streets(40), 0.2)
    assert len(taught) == 32
    assert len(held) == 8
    places = [int(item.name.rpartition("_")[2]) if "_" in item.name else k for k, item in enumerate(held.items)]
    assert np.count_nonzero(np.diff(places) == 1) >= 4 or len(places) == 8
    assert not {item.name for item in taught.items} & {item.name for item in held.items}
    with pytest.raises(UserError, match="too few to hold some of them out"):
        module.hold_out(streets(5), 0.2)


def test_scale_sets_hold_scale_one_and_neighbours() -> None:
    assert scale_sets((0.5, 1.0, 2.0)) == [(2.0, 1.0, 0.5), (2.0, 1.0), (1.0, 0.5)]
    assert scale_sets((0.5, 1.0)) == [(1.0, 0.5)]


def test_other_classes_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    space = STREETS.model_copy(update={"classes": STREETS.classes[:3]})
    with pytest.raises(UserError, match="classes"):
        attend_network(checkpoint._replace(label_space=space), streets(4), None, tmp_path, SETTINGS, "cpu")


def test_a_network_with_attention_of_its_own_can_be_given(tmp_path: Path) -> None:
    config = ModelConfig.model_validate(TINY | {"multiscale": MultiScaleConfig(method="hierarchical")})
    origin = Checkpoint(build_model(config, STREETS).eval(), config, STREETS)
    save_checkpoint(tmp_path / "origin.safetensors", origin.model, STREETS)
    again = load_checkpoint(tmp_path / "origin.safetensors")
    result = attend_network(again, streets(4), streets(3, "val"), tmp_path / "out", SETTINGS, "cpu")
    assert load_checkpoint(result.best).config.backbone == config.backbone
