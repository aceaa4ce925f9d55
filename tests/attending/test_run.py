"""Attention learnt afterwards, on views of a network whose trust is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyscale.attending import AttendConfig, attend_network
from polyscale.attending import run as module
from polyscale.attending.controls import controls
from polyscale.attending.judge import Judgement
from polyscale.attending.learn import class_weights, scale_sets
from polyscale.attending.pixels import CachedPixels
from polyscale.attention import statistics, surroundings
from polyscale.baselines import AveragePooling, average_logits, average_probabilities
from polyscale.config import validate
from polyscale.data import StreetsConfig, open_data
from polyscale.data.streets import STREETS
from polyscale.errors import UserError
from polyscale.intervals import Interval
from polyscale.models import ModelConfig, MultiScaleConfig, build_model
from polyscale.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from polyscale.views import View, look

TINY: dict[str, Any] = {"backbone": {"name": "tiny"}, "decoder": {"kind": "light", "light_channels": 8}}
SETTINGS = AttendConfig(epochs=1, channels=8, pixels=100, batch_size=32)


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
    level = Judgement({"attention": 0.51, "average of logits": 0.5}, Interval(0.01, -0.01, 0.03), 6)
    monkeypatch.setattr(module, "judge", lambda *_: level)
    result = attend_network(checkpoint, streets(4), streets(6, "val"), tmp_path, SETTINGS, "cpu")
    assert not result.judgement.keep
    assert isinstance(load_checkpoint(result.best).model, AveragePooling)


def test_it_learns_to_trust_the_right_scale(checkpoint: Checkpoint, tmp_path: Path, monkeypatch: Any) -> None:
    """A segmenter that is right at scale 1 and wrong, and surer, at 0.5: averaging loses what attention finds."""
    data = {split: streets(8, split) for split in ("train", "val")}
    truths = [torch.from_numpy(data[split].read(index).labels) for split in data for index in range(8)]
    images = [torch.from_numpy(data[split].read(index).image) for split in data for index in range(8)]

    def known(model: Any, image: torch.Tensor, scales: tuple[float, ...]) -> dict[float, View]:
        labels = next(truth for truth, other in zip(truths, images, strict=True) if torch.equal(image, other))
        truth = torch.nn.functional.one_hot(labels.clamp(max=8).long(), 9).permute(2, 0, 1)[None].float()
        coarse = torch.nn.functional.interpolate(truth.roll(1, 1), size=(8, 12))
        return {1.0: View(2 * truth), 0.5: View(3 * coarse)}

    monkeypatch.setattr("polyscale.attending.pixels.grid_views", known)
    monkeypatch.setattr("polyscale.attending.judge.grid_views", known)
    settings = AttendConfig(epochs=60, channels=16, pixels=200, batch_size=128, lr=1e-2, scales=(0.5, 1.0))
    result = attend_network(checkpoint, data["train"], data["val"], tmp_path, settings, "cpu")
    scores = result.judgement.mean_iou
    assert scores["attention"] > scores["average of logits"] + 0.1
    assert result.judgement.keep


def test_a_run_that_was_stopped_ends_the_same(checkpoint: Checkpoint, tmp_path: Path) -> None:
    whole = attend_network(checkpoint, streets(8), streets(3, "val"), tmp_path / "whole", SETTINGS, "cpu")

    def stop(what: str, done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attend_network(checkpoint, streets(8), streets(3, "val"), tmp_path / "cut", SETTINGS, "cpu", stop)
    files = sorted((tmp_path / "cut").rglob("*.safetensors"))
    assert len(files) == 5
    files[0].write_bytes(files[0].read_bytes()[:50])  # damaged by a full disk, say
    again = attend_network(checkpoint, streets(8), streets(3, "val"), tmp_path / "cut", SETTINGS, "cpu")
    assert again.judgement == whole.judgement
    first, second = (load_checkpoint(result.best).model.state_dict() for result in (whole, again))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_fewer_pixels_are_kept_where_there_is_less_space(checkpoint: Checkpoint, tmp_path: Path) -> None:
    model = module.with_attention(checkpoint, SETTINGS).eval()
    bytes_taken = {}
    for gigabytes in (1.0, 5e-5):
        settings = SETTINGS.model_copy(update={"cache_gigabytes": gigabytes})
        cached = CachedPixels(model, streets(4), settings, tmp_path / str(gigabytes))
        for index in range(len(cached)):
            cached.look_ahead(index)
        pixels = cached.read()
        several = [*(view.logits for view in pixels.views.values()), *pixels.known.values()]
        bytes_taken[gigabytes] = sum(x.nbytes for x in several)
    assert bytes_taken[5e-5] <= 50_000 < bytes_taken[1.0]


def test_cached_pixels_are_the_maps_at_labelled_places(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: Any
) -> None:
    """Maps of the image's size that say where they are: a pixel's values name its place."""
    model = module.with_attention(checkpoint, SETTINGS).eval()
    data = streets(1)
    labels = torch.from_numpy(data.read(0).labels)
    height, width = labels.shape
    place = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"))[None].float()
    views = {s: View(place.repeat(1, 5, 1, 1)[:, :9]) for s in SETTINGS.scales}
    monkeypatch.setattr("polyscale.attending.pixels.grid_views", lambda *_: views)
    cached = CachedPixels(model, data, SETTINGS, tmp_path)
    cached.look_ahead(0)
    pixels = cached.read()
    rows, columns = pixels.views[1.0].logits[:, :2, 0, 0].float().round().long().T
    assert len({*zip(rows.tolist(), columns.tolist(), strict=True)}) == SETTINGS.pixels
    assert torch.equal(labels[rows, columns].long(), pixels.labels.flatten())
    assert int(pixels.labels.max()) < 9


def test_controls_stand_beside_it(checkpoint: Checkpoint, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"controls": True})
    scores = attend_network(checkpoint, streets(4), streets(3, "val"), tmp_path, settings, "cpu").judgement.mean_iou
    assert {"one weight per class and scale", "temperature per scale", "scale 1 recalibrated", "oracle"} <= set(scores)
    assert scores["oracle"] >= max(scores.values()) - 1e-9


@pytest.mark.parametrize("scales", [(0.5, 1.0, 2.0), (1.0, 2.0)])
def test_controls_start_as_an_average_or_scale_one(scales: tuple[float, ...]) -> None:
    views = {s: View(torch.randn(2, 5, 6, 8)) for s in scales}
    known = {s: surroundings(statistics(view.logits)) for s, view in views.items()}
    weights, temperatures, recalibration = controls(5, (0.5, 1.0, 2.0), 8)
    torch.testing.assert_close(weights.chain(views, known).logits, average_logits(views))
    torch.testing.assert_close(temperatures.chain(views, known).logits.softmax(1), average_probabilities(views))
    torch.testing.assert_close(recalibration.eval().chain(views, known).logits, views[1.0].logits)


def test_rare_classes_count_more_and_the_mean_stays_one() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    weights = class_weights(labels, 3, 0.25)
    assert float(weights[1] / weights[0]) == pytest.approx(9**0.25)
    assert float(weights[labels].mean()) == pytest.approx(1)
    torch.testing.assert_close(class_weights(labels, 2, 0.0), torch.ones(2))


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


def test_it_looks_at_some_images_of_many(checkpoint: Checkpoint, tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []
    settings = SETTINGS.model_copy(update={"images": 3})

    def stop(what: str, done: int, total: int) -> None:
        seen.append((what, total))

    attend_network(checkpoint, streets(8), streets(2, "val"), tmp_path, settings, "cpu", stop)
    assert dict(seen)["looking at images"] == 3


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


@pytest.mark.parametrize(
    "setting", [{"channels": 2**62}, {"lr": 1e300}, {"weight_decay": 1e300}, {"cache_gigabytes": 1e300}]
)
def test_settings_beyond_all_bounds_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(setting))):
        validate(AttendConfig, setting)


def test_holding_all_images_out_is_refused() -> None:
    with pytest.raises(UserError, match="leaves none of 8 images"):
        module.hold_out(streets(8), 0.999)


def test_an_attention_that_diverged_is_told(checkpoint: Checkpoint, tmp_path: Path, monkeypatch: Any) -> None:
    def diverge(optimizer: torch.optim.AdamW) -> None:
        optimizer.param_groups[0]["params"][0].data.fill_(float("nan"))

    monkeypatch.setattr(torch.optim.AdamW, "step", diverge)
    with pytest.raises(UserError, match="diverged with lr"):
        attend_network(checkpoint, streets(8), None, tmp_path, SETTINGS, "cpu")
