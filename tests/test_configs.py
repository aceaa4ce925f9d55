"""Every recipe in configs/ is valid."""

from pathlib import Path

import pytest
import table3
from dry_run import recipes

from polyscale.cli.demo import RECIPE
from polyscale.config import load_config
from polyscale.data import open_data
from polyscale.training import ExperimentConfig

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.mark.parametrize("files", recipes(CONFIGS), ids=lambda files: str(files[-1].relative_to(CONFIGS)))
def test_recipe_is_valid(files: list[Path]) -> None:
    config = load_config(ExperimentConfig, files)
    if files[-1].name == "holdout.yaml":
        assert config.data.train.exclude == config.data.val.include == ("0006R0*",)  # type: ignore[union-attr]


def test_changes_that_a_recipe_proposes_are_valid() -> None:
    text = (CONFIGS / "folder.yaml").read_text()
    proposed = [line for line in text.replace("\n#", "").split(",") if "model.backbone.name=" in line]
    assert len(proposed) == 2
    for line in proposed:
        load_config(ExperimentConfig, [CONFIGS / "folder.yaml"], [word for word in line.split() if "=" in word])


@pytest.mark.parametrize("method", ["hierarchical", "single", "average", "explicit"])
@pytest.mark.parametrize("files", [[CONFIGS / "folder.yaml"], [CONFIGS / "camvid" / "lite0.yaml"], [RECIPE]], ids=str)
def test_one_key_chooses_the_method(files: list[Path], method: str) -> None:
    config = load_config(ExperimentConfig, files, [f"model.multiscale.method={method}"])
    assert config.model.multiscale.method == method


@pytest.mark.parametrize("method", table3.METHODS)
@pytest.mark.parametrize("files", recipes(CONFIGS), ids=lambda files: str(files[-1].relative_to(CONFIGS)))
def test_table3_runs_every_recipe_that_attends(files: list[Path], method: str) -> None:
    scales = {"single": (1.0,), "explicit": (0.5, 1.0, 2.0), "hierarchical": (0.5, 1.0)}
    found = load_config(ExperimentConfig, files, table3.METHODS[method]).model.multiscale
    assert found.train_scales == scales[method]
    assert found.attention.source == "scale"


@pytest.mark.parametrize("folder", ["cityscapes", "mapillary"])
def test_recipes_read_the_data_set_as_it_is_on_disk(folder: str, tmp_path: Path) -> None:
    """Empty files under the names that the data set's owners give them."""
    split, image, mask = {
        "cityscapes": ("val", "leftImg8bit/val/ulm/ulm_0_leftImg8bit.png", "gtFine/val/ulm/ulm_0_gtFine_labelIds.png"),
        "mapillary": ("validation", "validation/images/a_b.jpg", "validation/labels/a_b.png"),
    }[folder]
    for name in (image, mask):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    other = "leftImg8bit/val/ulm/ulm_0_gtFine_color.png" if folder == "cityscapes" else "validation/instances/a_b.png"
    (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / other).touch()
    for path in sorted((CONFIGS / folder).glob("*.yaml")):
        config = load_config(ExperimentConfig, [path], [f"data.val.root={tmp_path}"]).data.val
        assert config is not None
        assert config.split == split  # type: ignore[union-attr]
        (item,) = open_data(config).items
        assert (item.image, item.mask) == (tmp_path / image, tmp_path / mask)


def test_the_demos_recipe_is_valid() -> None:
    assert load_config(ExperimentConfig, [RECIPE]).model.multiscale.train_scales == (0.5, 1)
