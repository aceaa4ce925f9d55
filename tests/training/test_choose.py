"""A recipe chosen for a data set."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyscale.cli import main
from polyscale.config import load_config, validate
from polyscale.data import open_data
from polyscale.errors import UserError
from polyscale.labels import LabelClass, LabelSpace
from polyscale.training import ExperimentConfig, choose, choose_recipe, is_data, train


def write_data(root: Path, counts: dict[str, int], size: tuple[int, int] = (40, 60), rare: float = 0.0) -> Path:
    """Images of two classes; of class "b" a share of the rows, or ``rare``."""
    rng = np.random.default_rng(0)
    for split, count in counts.items():
        for index in range(count):
            labels = np.zeros(size, np.uint8)
            labels[: max(1, round(size[0] * (rare or 0.4)))] = 1
            image = (labels[..., None] * 120 + rng.integers(0, 90, (*size, 3))).astype(np.uint8)
            for kind, array in (("images", image), ("masks", labels)):
                path = root / kind / split / f"{index:03} [x].png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    classes = (LabelClass(name="a", color=(0, 0, 9)), LabelClass(name="b", color=(200, 0, 9)))
    LabelSpace(name="two", classes=classes).to_yaml(root / "label_space.yaml")
    return root


def said(values: dict) -> str:
    return "\n".join(values["notes"])


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "can_be_pretrained", lambda name: name == "tf_efficientnet_lite0")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_it_is_a_recipe_that_names_its_reasons(tmp_path: Path) -> None:
    data = write_data(tmp_path / "mine", {"train": 9, "val": 2})
    values = choose_recipe(data)
    config = validate(ExperimentConfig, values)
    assert config.name == "mine"
    assert config.model.backbone.name == "tf_efficientnet_lite0"
    assert config.model.backbone.pretrained is True
    assert config.augment.crop == (64, 64)  # as large as the image, in steps of the network
    assert config.loss.class_weights == "none"
    assert len(open_data(config.data.train)) == 9
    assert config.data.val is not None
    assert len(open_data(config.data.val)) == 2
    assert "9 images to learn from, 2 for validation (splits train and val); about 60 x 40 pixels, 2 classes" in said(
        values
    )


def test_without_a_validation_split_some_images_are_held_out(tmp_path: Path) -> None:
    config = validate(ExperimentConfig, choose_recipe(write_data(tmp_path, {"train": 20})))
    assert config.data.val is not None
    train_names = {item.name for item in open_data(config.data.train).items}
    held = {item.name for item in open_data(config.data.val).items}
    assert (len(train_names), len(held)) == (16, 4)
    assert not train_names & held


def test_three_images_hold_none_out_and_fill_batches(tmp_path: Path) -> None:
    values = choose_recipe(write_data(tmp_path, {"train": 3}))
    config = validate(ExperimentConfig, values)
    assert config.data.val is None
    assert "too few to hold some out" in said(values)
    assert config.training.epoch_length is not None
    assert config.training.epoch_length >= config.training.batch_size


def test_a_rare_class_is_drawn_and_weighed(tmp_path: Path) -> None:
    values = choose_recipe(write_data(tmp_path, {"train": 8, "val": 1}, (100, 60), rare=0.01))
    assert values["loss"]["class_weights"] == "inverse-log"
    assert values["sampling"]["fraction"] > 0
    assert "1.0% of the pixels are b" in said(values)


def test_left_and_right_forbid_mirror_images(tmp_path: Path) -> None:
    data = write_data(tmp_path, {"train": 8})
    classes = (LabelClass(name="left_lung", color=(0, 0, 9)), LabelClass(name="b", color=(200, 0, 9)))
    LabelSpace(name="two", classes=classes).to_yaml(data / "label_space.yaml")
    assert choose_recipe(data)["augment"]["flip"] == 0


def test_where_no_weights_can_be_had_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_data(tmp_path, {"train": 8})
    before = choose_recipe(data)
    monkeypatch.setattr(choose, "can_be_pretrained", lambda name: False)
    values = choose_recipe(data)
    assert values["model"]["backbone"]["pretrained"] is False
    assert "no ImageNet weights can be had here" in said(values)
    assert values["training"]["epochs"] > before["training"]["epochs"]


@pytest.mark.parametrize(
    ("size", "crop"),
    [((540, 960), (256, 480)), ((830, 550), (448, 288)), ((1000, 5000), (256, 512)), ((20, 20), (32, 32))],
)
def test_a_crop_has_the_images_proportions(size: tuple[int, int], crop: tuple[int, int]) -> None:
    assert choose._crop(size, 352) == crop


def test_what_is_data(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("name: run\n")
    (tmp_path / "recipe.yaml").write_text("data: {train: {kind: streets}}\n")
    (tmp_path / "set.yaml").write_text("kind: streets\n")
    assert is_data(tmp_path)
    assert is_data(f"{tmp_path}:val")
    assert is_data(tmp_path / "set.yaml")
    assert not is_data(tmp_path / "run")
    assert not is_data(tmp_path / "recipe.yaml")
    assert not is_data(tmp_path / "nothing.yaml")
    assert not is_data("training.epochs=3")


SHORT = [
    "model.backbone={name: tiny, pretrained: false}", "model.decoder.light_channels=8", "augment.crop=[32,32]",
    "training.epochs=1", "training.epoch_length=8", "training.num_workers=0", "training.tracker=none",
    "validation.every=1",
]  # fmt: skip


def test_the_command_says_what_it_chose_and_leaves_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "mine", {"train": 8, "val": 1})
    assert main(["train", "mine", *SHORT]) == 0
    shown = capsys.readouterr().err
    assert "data: 8 images" in shown
    assert "network: tf_efficientnet_lite0 with ImageNet weights" in shown
    stored = load_config(ExperimentConfig, ["runs/mine/config.yaml"])
    assert stored.notes == tuple(choose_recipe("mine")["notes"])
    assert stored.model.backbone.name == "tiny"  # what the user changed
    assert main(["train", "runs/mine/config.yaml", "--out", "again"]) == 0
    first, second = (Path(folder, "log.jsonl").read_text() for folder in ("runs/mine", "again"))
    assert first == second
    capsys.readouterr()
    assert main(["train", "mine", *SHORT]) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert main(["train", "mine", "--resume"]) == 0


def test_a_folder_beside_a_recipe_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_data(tmp_path / "mine", {"train": 8})
    (tmp_path / "r.yaml").write_text("training: {epochs: 1}\n")
    assert main(["train", str(tmp_path / "r.yaml"), str(data)]) == 2
    shown = capsys.readouterr().err
    assert "is a folder; name it alone" in shown
    assert shown.count("\n") == 1


def test_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_data(tmp_path / "mine", {"train": 8, "val": 1})
    values = choose_recipe(data)
    small = {"backbone": {"name": "tiny"}, "decoder": {"kind": "light", "light_channels": 8}}
    length = {"epochs": 1, "epoch_length": 8, "num_workers": 0, "tracker": "none"}
    changed = {
        **values, "model": {**values["model"], **small}, "training": {**values["training"], **length},
        "validation": {"every": 1},
    }  # fmt: skip
    monkeypatch.setattr(choose, "choose_recipe", lambda where: changed)
    result = train("mine")
    assert result.steps == 1
    assert result.best == Path("runs/mine/best.safetensors")


def test_data_without_masks_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images/a.png")
    with pytest.raises(UserError):
        choose_recipe(tmp_path)
