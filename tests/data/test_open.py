import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from pydantic import Field

from polyscale.config import Config, validate
from polyscale.data import (
    CAMVID,
    CamVidConfig,
    DataConfig,
    FolderConfig,
    StreetsConfig,
    data_config,
    list_splits,
    open_data,
)
from polyscale.errors import UserError
from polyscale.labels import LabelClass, LabelSpace

SPACE = LabelSpace(classes=(LabelClass(name="road", color=(1, 2, 3)),))


def save(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 6), np.uint8)).save(path)


@pytest.fixture
def plain(tmp_path):
    for split in ("train", "extra", "val"):
        save(tmp_path / f"plain/images/{split}/a.jpg", tmp_path / f"plain/masks/{split}/a.png")
    SPACE.to_yaml(tmp_path / "plain/label_space.yaml")
    return tmp_path / "plain"


@pytest.fixture
def camvid_like(tmp_path):
    for split in ("train", "val"):
        save(tmp_path / f"cv/{split}/a.jpg", tmp_path / f"cv/{split}annot/a.png")
    return tmp_path / "cv"


def names(data):
    return [item.name for item in data.items]


def test_a_plain_folder_is_recognised(plain):
    assert data_config(plain) == FolderConfig(root=plain)
    assert names(open_data(plain)) == ["extra/a", "train/a", "val/a"]
    assert names(open_data(plain, split="val")) == ["a"]
    assert open_data(f"{plain}:val").items[0].image == plain / "images/val/a.jpg"
    assert list_splits(plain) == ("train", "val", "extra")
    assert list_splits(f"{plain}:val") == ()


def test_camvid_is_recognised(camvid_like):
    data = open_data(str(camvid_like), split="train")
    assert data.label_space == CAMVID
    assert data_config(camvid_like) == CamVidConfig(root=camvid_like)
    assert list_splits(camvid_like) == ("train", "val")
    assert data.read(0).labels.max() == 0


def test_configs_and_overridden_splits(plain):
    config = FolderConfig(root=plain, split="train", include=("a",))
    assert open_data(config).items[0].image == plain / "images/train/a.jpg"
    assert open_data(config, split="val").items[0].image == plain / "images/val/a.jpg"
    assert data_config(config, "val").include == ("a",)


def test_a_yaml_of_a_config(plain, tmp_path, monkeypatch):
    (tmp_path / "a.yaml").write_text("kind: folder\nroot: plain\nsplit: val\n")
    assert names(open_data(tmp_path / "a.yaml")) == ["a"]
    assert open_data(tmp_path / "a.yaml", split="train").items[0].image == plain / "images/train/a.jpg"
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/b.yaml").write_text("root: plain\nsplit: [train, val]\n")
    monkeypatch.chdir(tmp_path)
    assert names(open_data("deep/b.yaml")) == ["train/a", "val/a"]


def test_a_folder_may_describe_itself(plain):
    (plain / "data.yaml").write_text("image: images/val/{name}.jpg\nmask: masks/val/{name}.png\n")
    assert open_data(plain).items[0].image == plain / "images/val/a.jpg"


def test_a_folder_named_by_its_root_alone_is_read_as_it_describes_itself(plain):
    (plain / "masks").rename(plain / "labels")
    text = "image: images/{split}/{name}.jpg\nmask: labels/{split}/{name}.png\nsplit: train\n"
    (plain / "data.yaml").write_text(text)
    for split in ("train", "val"):
        (item,) = open_data(FolderConfig(root=plain, split=split)).items
        assert item.mask.parent == plain / "labels" / split
    assert data_config(FolderConfig(root=plain)).split == "train"
    resolved = FolderConfig(root=plain, split="val").model_dump()  # every default is written down
    assert data_config(FolderConfig(**resolved)).mask == "labels/{split}/{name}.png"
    own = FolderConfig(root=plain, image="images/val/{name}", mask="labels/val/{name}")
    assert data_config(own) == own


def test_one_set_has_no_other_split_than_train(plain):
    (plain / "data.yaml").write_text("image: images/val/{name}.jpg\nmask: masks/val/{name}.png\n")
    assert len(open_data(FolderConfig(root=plain, split="train"))) == 1
    for where in (FolderConfig(root=plain, split="val"), f"{plain}:test"):
        with pytest.raises(UserError, match="is one set without splits, so it has no '(val|test)'"):
            open_data(where)


def test_a_folder_that_says_to_be_of_another_kind_is_not_read_as_a_plain_one(plain):
    (plain / "data.yaml").write_text("kind: camvid\nroot: .\n")
    with pytest.raises(UserError, match="describes a data set of kind 'camvid'"):
        open_data(FolderConfig(root=plain))


def test_splits_of_templates_and_of_split_files(plain):
    config = FolderConfig(root=plain, image="images/{split}/{name}", mask="masks/{split}/{name}")
    assert list_splits(config) == ("train", "val", "extra")
    (plain / "lists").mkdir()
    (plain / "lists/val_list.txt").touch()
    assert list_splits(FolderConfig(root=plain, split_file="lists/{split}_list.txt")) == ("val",)
    assert list_splits(FolderConfig(root=plain, image="images/{name}", mask="masks/{name}")) == ()


def test_streets_are_drawn_and_splits_never_meet():
    train = open_data(StreetsConfig(count=2, size=(64, 96)))
    val = open_data(StreetsConfig(count=2, size=(64, 96)), split="val")
    assert len(train) == 2
    assert not {item.name for item in train.items} & {item.name for item in val.items}
    sample = pickle.loads(pickle.dumps(train)).read(1)
    assert sample.name == train.items[1].name
    assert sample.image.shape == (64, 96, 3)
    assert (sample.image.dtype, sample.labels.dtype) == (np.uint8, np.uint8)
    assert sample.labels.max() < train.label_space.num_classes
    np.testing.assert_array_equal(sample.image, train.read(1).image)
    assert not np.array_equal(sample.image, val.read(1).image)


def test_the_kind_chooses_the_config_within_a_recipe():
    class Recipe(Config):
        data: DataConfig = Field(...)

    assert isinstance(validate(Recipe, {"data": {"kind": "camvid", "root": "x"}}).data, CamVidConfig)
    with pytest.raises(UserError, match="unknown key 'data.root'; allowed here: kind, split, count, size, seed"):
        validate(Recipe, {"data": {"kind": "streets", "root": "x"}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: vox\n", "kind is 'vox', allowed are folder, camvid, .*streets"),
        ("kind: [folder]\n", r"kind is \['folder'\], allowed are folder, camvid, .*streets"),
        ("root:\n", r"root: must be a path \(not None\)"),
        ("root: [a, b]\n", "root: must be a path"),
        ("- a\n", "must hold the keys of a data config"),
        ("kind: camvid\nsplits: val\n", "unknown key 'splits'"),
        ("root: nowhere\n", "no such data folder: nowhere"),
    ],
)
def test_a_wrong_yaml_is_one_line(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        open_data(tmp_path / "a.yaml")
    assert "\n" not in str(caught.value)


def test_a_wrong_path_is_one_line(tmp_path, plain):
    with pytest.raises(UserError, match=r"no such data set: .*none; give a folder, FOLDER:SPLIT, or a YAML"):
        open_data(tmp_path / "none")
    with pytest.raises(UserError, match=r"has no split 'vall' \(did you mean 'val'\?\); splits there: extra, train"):
        open_data(f"{plain}:vall")
    with pytest.raises(UserError, match="names no split after the colon; write for example .*plain:val"):
        open_data(f"{plain}:")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="in no layout that is recognised: it needs images/ with masks/"):
        open_data(tmp_path / "empty")
    with pytest.raises(UserError, match=r"a\.jpg is neither a folder nor a YAML file"):
        open_data(plain / "images/val/a.jpg")
    with pytest.raises(UserError, match=r"split: must be 'train', 'val' or 'test'"):
        open_data(StreetsConfig(), split="extra")


def test_opening_and_checking_do_not_load_torch():
    code = "import sys; from polyscale.data import open_data, check_data, StreetsConfig as S; open_data(S(count=1)); "
    run = subprocess.run([sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"], check=False)
    assert run.returncode == 0
