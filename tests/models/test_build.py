"""The four methods behind one call, and one-file checkpoints."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from polyscale.backbones import BackboneConfig
from polyscale.config import validate
from polyscale.decoders import DecoderConfig
from polyscale.errors import UserError
from polyscale.labels import LabelClass, LabelSpace
from polyscale.models import (
    ModelConfig,
    MultiScaleConfig,
    build_model,
    load_checkpoint,
    read_metadata,
    save_checkpoint,
)
from polyscale.multiscale import MultiScale

SPACE = LabelSpace(
    name="two", classes=(LabelClass(name="a", color=(1, 2, 3)), LabelClass(name="b", color=(4, 5, 6), ids=(9,)))
)
METHODS = ("hierarchical", "single", "average", "explicit")


def tiny(**multiscale: Any) -> ModelConfig:
    settings = validate(MultiScaleConfig, {"attention": {"channels": 4}, **multiscale})
    return ModelConfig(
        backbone=BackboneConfig(name="tiny"), decoder=DecoderConfig(kind="light", light_channels=8), multiscale=settings
    )


def build(**multiscale: Any) -> MultiScale:
    torch.manual_seed(0)
    return build_model(tiny(**multiscale), SPACE).eval()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(33, 47), (64, 32), (1, 1), (5, 200)])
def test_results_have_the_images_size(method: str, size: tuple[int, int]) -> None:
    model = build(method=method)
    with torch.inference_mode():
        fused = model(torch.rand(2, 3, *size))
    assert fused.logits.shape == (2, 2, *size)
    assert set(fused.views) == set(model.eval_scales)
    assert torch.isfinite(fused.logits).all()


def test_fusion_is_exact_or_fast() -> None:
    images = torch.rand(1, 3, 40, 56)
    with torch.inference_mode():
        exact, fast = (build(fusion=fusion)(images) for fusion in ("exact", "fast"))
    assert exact.views[1.0].logits.shape[-2:] == (40, 56)
    assert fast.views[1.0].logits.shape[-2:] == (10, 14)
    torch.testing.assert_close(fast.logits, exact.logits, rtol=0, atol=0.1 * float(exact.logits.abs().max()))


def without_padding(model: MultiScale) -> MultiScale:
    published = build_model(model.config.model_copy(update={"pad": False}), SPACE).eval()
    published.load_state_dict(model.state_dict())
    return published


@pytest.mark.parametrize("size", [(33, 47), (36, 52), (1, 1), (64, 31)])
def test_images_are_padded_to_what_the_strides_divide(size: tuple[int, int]) -> None:
    model = build(method="single")
    multiple = model.segmenter.backbone.multiple  # type: ignore[union-attr]
    height, width = size
    images = torch.rand(1, 3, height, width)
    mirrored = -height % multiple < height and -width % multiple < width

    def beyond(place: int, side: int) -> int:
        return place if place < side else 2 * (side - 1) - place if mirrored else side - 1

    padded = images[..., [beyond(row, height) for row in range(height + -height % multiple)], :]
    padded = padded[..., [beyond(column, width) for column in range(width + -width % multiple)]]
    with torch.inference_mode():
        found, expected = model(images), without_padding(model)(padded)
        view = model.segmenter(images)
    # Where the grid's stride divides the sides, the cut is on the grid, whose last pixels are enlarged alone.
    inner = 0 if height % 4 or width % 4 else 2
    window = (..., slice(height - inner), slice(width - inner))
    torch.testing.assert_close(found.logits[window], expected.logits[window], rtol=1e-4, atol=1e-5)
    assert view.features.shape[-2:] == (-(-height // 4), -(-width // 4))


@pytest.mark.parametrize("method", METHODS)
def test_padding_changes_nothing_where_the_strides_divide_every_view(method: str) -> None:
    model, images = build(method=method), torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        found, expected = model(images), without_padding(model)(images)
    assert torch.equal(found.logits, expected.logits)
    assert all(torch.equal(view.logits, expected.views[scale].logits) for scale, view in found.views.items())


@pytest.mark.parametrize("method", METHODS)
def test_one_image_alone_equals_itself_in_a_batch(method: str) -> None:
    model = build(method=method)
    images = torch.rand(3, 3, 33, 47)
    with torch.inference_mode():
        torch.testing.assert_close(model(images).logits[1:2], model(images[1:2]).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_defaults_are_the_papers(method: str) -> None:
    config = MultiScaleConfig(method=method)
    assert config.train_scales == {"hierarchical": (0.5, 1), "explicit": (0.5, 1, 2)}.get(method, (1,))
    assert config.eval_scales == {"single": (1,)}.get(method, (0.5, 1, 2))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "average", "train_scales": [0.5, 1]}, "trains at scale 1 only"),
        ({"method": "single", "eval_scales": [0.5, 1]}, "choose method average"),
        ({"method": "hierarchical", "train_scales": [1]}, "needs a pair"),
        ({"method": "explicit", "eval_scales": [1]}, "bound to its train_scales"),
        ({"train_scales": [0.5, 2]}, "must contain 1"),
        ({"method": "both"}, "hierarchical"),
    ],
)
def test_settings_that_do_not_fit_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        validate(MultiScaleConfig, values)


def test_only_the_hierarchical_form_has_a_scale_attention_head_in_the_segmenter() -> None:
    for method in METHODS:
        names = [name for name, _ in build(method=method).named_parameters()]
        assert any("segmenter.attention" in name for name in names) == (method == "hierarchical")
        assert any(name.startswith("head") for name in names) == (method == "explicit")


def test_initial_attention_is_what_was_asked_for() -> None:
    model = build(attention={"channels": 4, "initial": 0.2})
    with torch.inference_mode():
        attention = model(torch.rand(1, 3, 32, 32)).views[0.5].attention
    assert attention is not None
    torch.testing.assert_close(attention, torch.full_like(attention, 0.2))


def test_the_model_normalises_and_the_checkpoint_keeps_it(tmp_path: Path) -> None:
    model = build()
    model.segmenter.mean.fill_(0.25)  # type: ignore[union-attr, operator]
    save_checkpoint(tmp_path / "m.safetensors", model, SPACE)
    images = torch.rand(1, 3, 20, 24)
    loaded = load_checkpoint(tmp_path / "m.safetensors")
    with torch.inference_mode():
        assert torch.equal(loaded.model(images).logits, model(images).logits)
    assert loaded.label_space == SPACE
    assert not loaded.model.training


@pytest.mark.parametrize("method", METHODS)
def test_save_and_load(tmp_path: Path, method: str) -> None:
    path = tmp_path / "deep" / "folder" / "m.safetensors"
    model = build(method=method).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    save_checkpoint(path, model, SPACE, {"epoch": 3, "miou": 0.5})
    metadata = read_metadata(path)
    assert metadata.info == {"epoch": 3, "miou": 0.5}
    assert metadata.config == model.config
    images = torch.rand(1, 3, 21, 30)
    with torch.inference_mode():
        torch.testing.assert_close(load_checkpoint(path).model(images).logits, model(images).logits)
    assert [item.name for item in path.parent.iterdir()] == ["m.safetensors"]


BRACKETS = "[" * 5000


@pytest.mark.parametrize("config", ["{", "[]", '{"backbone": 3}', '{"backbone": {"nmae": "tiny"}}', BRACKETS])
def test_metadata_that_are_not_a_configuration_are_told(tmp_path: Path, config: str) -> None:
    path = tmp_path / "m.safetensors"
    for entries in (
        {"format": "polyscale-1", "config": config, "label_space": "{}"},
        {"polyscale": f'{{"version": "0.2", "label_space": {{}}, "info": {{}}, "config": {config}}}'},
        {"polyscale": config},
    ):
        save_file({"x": torch.zeros(1)}, path, entries)
        with pytest.raises(UserError, match="cannot be read by this one") as caught:
            read_metadata(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500


def test_equal_networks_are_equal_files(tmp_path: Path) -> None:
    for number in range(5):
        save_checkpoint(tmp_path / f"{number}.safetensors", build(), SPACE, {"epoch": 3, "miou": 0.5, "data": "x"})
    contents = {path.read_bytes() for path in tmp_path.iterdir()}
    assert len(contents) == 1
    save_checkpoint(tmp_path / "other.safetensors", build(), SPACE, {"epoch": 4})
    assert (tmp_path / "other.safetensors").read_bytes() not in contents


def test_checkpoints_of_the_first_format_are_read(tmp_path: Path) -> None:
    """As versions before 0.2 wrote them: an entry each, and ``combined.`` before the names."""
    model, path = build(), tmp_path / "m.safetensors"
    config = model.config.model_dump(mode="json")
    config["decoder"]["ocr_channels"] = 64  # of no effect, and not refused then
    facts = {
        "format": "polyscale-1",
        "version": "0.1.0",
        "config": json.dumps(config),
        "label_space": SPACE.model_dump_json(),
        "info": '{"epoch": 3}',
    }
    save_file({f"combined.{name}": value for name, value in model.state_dict().items()}, path, facts)
    metadata = read_metadata(path)
    assert (metadata.version, metadata.info, metadata.label_space) == ("0.1.0", {"epoch": 3}, SPACE)
    images = torch.rand(1, 3, 20, 24)
    with torch.inference_mode():
        assert torch.equal(load_checkpoint(path).model(images).logits, model(images).logits)


def test_loading_fetches_no_pretrained_weights(tmp_path: Path) -> None:
    """A checkpoint trained from pretrained weights carries them: its backbone is built without asking for any."""
    model = build()
    object.__setattr__(model.config.backbone, "pretrained", "gone.pth")
    save_checkpoint(tmp_path / "m.safetensors", model, SPACE)
    assert load_checkpoint(tmp_path / "m.safetensors").config.backbone.pretrained is False


def bad_files(folder: Path) -> dict[str, Path]:
    good = folder / "good.safetensors"
    save_checkpoint(good, build(), SPACE)
    data = good.read_bytes()
    with safe_open(good, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    files = {
        name: folder / f"{name}.safetensors"
        for name in ("empty", "cut", "text", "foreign", "newer", "lacking", "renamed")
    }
    files["empty"].write_bytes(b"")
    files["cut"].write_bytes(data[: len(data) // 2])
    files["text"].write_text("hello")
    save_file({"x": torch.zeros(2)}, files["foreign"])
    facts = json.loads(metadata["polyscale"])
    facts["config"] |= {"future": 1}
    save_file(tensors, files["newer"], {"polyscale": json.dumps(facts)})
    tensors.pop(next(iter(tensors)))
    save_file(tensors, files["lacking"], metadata)
    save_file({"odd": torch.zeros(1)}, files["renamed"], metadata)
    return files


def test_bad_checkpoints_are_one_line_that_names_the_file(tmp_path: Path) -> None:
    for name, path in [*bad_files(tmp_path).items(), ("missing", tmp_path / "missing"), ("folder", tmp_path)]:
        with pytest.raises(UserError) as caught:
            load_checkpoint(path)
        message = str(caught.value)
        assert str(path) in message, name
        assert "\n" not in message, name


def test_a_checkpoint_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, build(), SPACE)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)  # root may read every file
    with pytest.raises(UserError, match=r"m\.safetensors may not be read: permission denied; change its permissions"):
        read_metadata(path)


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    save_checkpoint(path, build(), SPACE)
    before = path.read_bytes()

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("polyscale.models.checkpoint.save_file", full)
    with pytest.raises(UserError, match="No space left"):
        save_checkpoint(path, build(), SPACE)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["m.safetensors"]


def test_attention_from_pairs_and_a_head_without_batch_norm(tmp_path: Path) -> None:
    pairs = build(attention={"channels": 4, "source": "pair"})
    plain = build(method="explicit", attention={"channels": 4, "batch_norm": False})
    for model in (pairs, plain):
        save_checkpoint(tmp_path / "m.safetensors", model, SPACE)
        loaded = load_checkpoint(tmp_path / "m.safetensors").model
        images = torch.rand(1, 3, 21, 30)
        with torch.inference_mode():
            torch.testing.assert_close(loaded(images).logits, model(images).logits)
    assert pairs.head[0].in_channels == 2 * 8
    # The released head's border: two pixels more than the features have.
    assert plain.head(torch.zeros(1, 24, 5, 7)).shape == (1, 3, 7, 9)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "explicit", "attention": {"source": "pair"}}, "remove attention.source"),
        ({"attention": {"batch_norm": False}}, "remove attention.batch_norm"),
    ],
)
def test_attention_of_another_method_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        validate(MultiScaleConfig, values)
