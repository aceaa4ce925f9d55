import numpy as np
import pytest
from PIL import Image

from polyscale.data.camvid import CAMVID, CamVidConfig, camvid_splits
from polyscale.errors import UserError
from polyscale.labels import IGNORE

NAMES = {"train": ("0001TP_006690", "0006R0_f00930", "0006R0_f00960", "0016E5_00390"), "val": ("0016E5_07959",)}


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for split, names in NAMES.items():
        (tmp_path / split).mkdir()
        (tmp_path / f"{split}annot").mkdir()
        for position, name in enumerate(names):
            image = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
            image.save(tmp_path / split / f"{name}.{'png' if position % 2 else 'jpg'}")
            mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
            Image.fromarray(mask).save(tmp_path / f"{split}annot" / f"{name}.png")
    return tmp_path


def names(data):
    return [item.name for item in data.items]


def test_a_split_is_read_and_void_is_ignored(root):
    data = CamVidConfig(root=root, split="train").open()
    assert names(data) == list(NAMES["train"])
    sample = data.read(0)
    assert sample.image.shape == (3, 4, 3)
    assert sample.labels.ravel().tolist() == [*range(11), IGNORE]


def test_the_label_space_is_camvids_whatever_lies_in_the_folder(root):
    (root / "label_space.yaml").write_text("classes: [{name: other, color: [0, 0, 0]}]")
    assert CamVidConfig(root=root, split="val").open().label_space == CAMVID
    assert CAMVID.num_classes == 11
    assert len({tuple(color) for color in CAMVID.palette.tolist()}) == 11
    assert CAMVID.decode(np.array([[0, 10, IGNORE]], np.uint8)).tolist() == [[0, 10, 11]]


def test_sequences_can_be_held_out(root):
    config = CamVidConfig(root=root, split="train", exclude=("0006R0",))
    assert names(config.open()) == ["0001TP_006690", "0016E5_00390"]
    assert names(CamVidConfig(root=root, split="train", exclude=("0006R0*",)).open()) == names(config.open())
    held_out = CamVidConfig(root=root, split="train", include=("0006R0",)).open()
    assert names(held_out) == ["0006R0_f00930", "0006R0_f00960"]


def test_a_misspelt_sequence_is_an_error(root):
    with pytest.raises(UserError, match=r"exclude pattern '0006RO\*' fits no image"):
        CamVidConfig(root=root, split="train", exclude=("0006RO",)).open()


def test_several_splits_and_all_of_them(root):
    both = CamVidConfig(root=root, split=("train", "val"), exclude=("0006R0",)).open()
    assert names(both) == ["train/0001TP_006690", "train/0016E5_00390", "val/0016E5_07959"]
    assert len(CamVidConfig(root=root).open()) == 5
    assert camvid_splits(root) == ("train", "val")


def test_a_split_that_is_not_there_is_named(root):
    with pytest.raises(UserError, match=r"no folder .*test for the images; .* has the folders train, trainannot, val"):
        CamVidConfig(root=root, split="test").open()
    with pytest.raises(UserError, match="no such data folder"):
        CamVidConfig(root=root / "none").open()


def test_the_real_set_has_its_published_split(camvid):
    train, val = (CamVidConfig(root=camvid, split=split).open() for split in ("train", "val"))
    assert (len(train), len(val)) == (367, 101)
    assert len(CamVidConfig(root=camvid, split="train", include=("0006R0",)).open()) == 101
    sample = val.read(0)
    assert sample.image.shape == (360, 480, 3)
    assert set(np.unique(sample.labels)) <= {*range(11), IGNORE}
