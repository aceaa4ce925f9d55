import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from polyscale.config import Config, validate
from polyscale.crops import class_centroids
from polyscale.data import DataConfig, TorchConfig, TorchData, check_data, open_data
from polyscale.errors import UserError
from polyscale.labels import IGNORE, LabelClass, LabelSpace

SPACE = LabelSpace(
    name="pair",
    classes=(LabelClass(name="a", color=(1, 1, 1), ids=(3,)), LabelClass(name="b", color=(2, 2, 2), ids=(5,))),
)
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)
IDS = np.array([[3, 5, 255, 3, 5, 5]] * 4)
LABELS = np.array([[0, 1, IGNORE, 0, 1, 1]] * 4)


class Pairs(Dataset):
    def __init__(self, count=2):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return Image.fromarray(PIXELS), torch.from_numpy(IDS)


class Endless(Dataset):
    def __getitem__(self, index):
        return None


@pytest.mark.parametrize(
    "image",
    [
        PIXELS,
        Image.fromarray(PIXELS),
        torch.from_numpy(PIXELS).permute(2, 0, 1),
        torch.from_numpy(PIXELS).permute(2, 0, 1).float() / 255,
        PIXELS.astype(np.float64) / 255,
    ],
    ids=["array", "pillow", "tensor", "float tensor", "float array"],
)
@pytest.mark.parametrize(
    "mask",
    [IDS, Image.fromarray(IDS.astype(np.uint8)), torch.from_numpy(IDS), torch.from_numpy(IDS)[None]],
    ids=["array", "pillow", "tensor", "tensor of one channel"],
)
def test_a_pair_becomes_bytes_and_train_ids(image, mask):
    sample = TorchData([(image, mask)], SPACE, "mine").read(0)
    assert sample.name == "mine_0"
    np.testing.assert_array_equal(sample.image, PIXELS)
    np.testing.assert_array_equal(sample.labels, LABELS)
    assert (sample.image.dtype, sample.labels.dtype) == (np.uint8, np.uint8)


@pytest.mark.parametrize("grey", [PIXELS[..., 0], torch.from_numpy(PIXELS[..., 0])[None], PIXELS[..., :1]])
def test_a_grey_image_has_three_equal_channels(grey):
    image = TorchData([(grey, IDS)], SPACE).read(0).image
    np.testing.assert_array_equal(image, np.stack([PIXELS[..., 0]] * 3, axis=2))


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ({"image": PIXELS, "mask": IDS}, r"is no pair \(image, mask\)"),
        ((PIXELS, IDS, 3), r"is no pair \(image, mask\)"),
        ((PIXELS[:2], IDS), "the image is 6 x 2 pixels and its mask 6 x 4"),
        ((PIXELS / 128.0, IDS), "are not in 0 to 1; leave normalisation to the network"),
        ((PIXELS.astype(np.int64), IDS), "an image of int64 has no fixed range"),
        ((np.zeros((4, 6, 4), np.uint8), IDS), r"an image of shape \(4, 6, 4\) is not \(H, W, 3\)"),
        ((torch.zeros(4, 6, 3, 1), IDS), r"is not \(3, H, W\)"),
        ((PIXELS, np.zeros((4, 6, 3), np.int64)), r"a mask of shape \(4, 6, 3\) is not \(H, W\)"),
        ((PIXELS, IDS + 1), r"ids outside the label space 'pair': 4 \(8 px\)"),
        ((PIXELS, IDS / 2), "label ids must be whole numbers"),
    ],
)
def test_what_is_no_pair_is_one_line(pair, message):
    with pytest.raises(UserError, match=f"item data_0:? .*{message}"):
        TorchData([pair], SPACE).read(0)


def test_it_can_be_checked_sampled_and_sent_to_another_process():
    data = TorchData(Pairs(12), SPACE, "mine")
    assert [item.name for item in data.items][::11] == ["mine_00", "mine_11"]
    assert len(pickle.loads(pickle.dumps(data))) == 12
    report = check_data(TorchData(Pairs(1), SPACE))
    assert report.usable
    assert [row.pixels for row in report.classes] == [8, 12]
    assert class_centroids(data).classes.tolist() == [0, 1] * 12


def test_a_recipe_may_name_a_class():
    class Recipe(Config):
        data: DataConfig

    values = {"kind": "torch", "dataset": "tests.data.test_torch_data:Pairs", "label_space": "cityscapes"}
    config = validate(Recipe, {"data": values}).data
    assert config == TorchConfig(dataset=values["dataset"], label_space="cityscapes")


def test_a_class_is_imported_and_given_its_options(tmp_path, monkeypatch):
    (tmp_path / "my_streets.py").write_text(
        "import numpy as np\n"
        "from torch.utils.data import Dataset\n"
        "from polyscale.data import SegmentationData, StreetsConfig\n"
        "class Plain(Dataset):\n"
        "    def __init__(self, count): self.count = count\n"
        "    def __len__(self): return self.count\n"
        "    def __getitem__(self, index): return np.zeros((2, 3, 3), np.uint8), np.full((2, 3), 7)\n"
        "class NoLength(Dataset): pass\n"
        "class Own(SegmentationData):\n"
        "    def __init__(self):\n"
        "        self.inner = StreetsConfig(count=1, size=(64, 64)).open()\n"
        "        self.label_space, self.items = self.inner.label_space, self.inner.items\n"
        "    def read(self, index): return self.inner.read(index)\n"
        "def function(): return []\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "kind: torch\ndataset: my_streets:Plain\noptions: {count: 3}\nlabel_space: cityscapes\n"
    )
    data = open_data(tmp_path / "mine.yaml")
    assert (len(data), data.items[0].name) == (3, "Plain_0")
    assert data.read(2).labels.tolist() == [[0, 0, 0]] * 2
    assert open_data(TorchConfig(dataset="my_streets:Own")).read(0).labels.shape == (64, 64)
    for name, options, message in (
        ("Plain", {}, "cannot be made with these options: .*count"),
        ("Plain", {"count": 1}, "need a label_space"),
        ("NoLength", {}, "has no __len__"),
        ("function", {}, "no subclass of torch.utils.data.Dataset"),
        ("nothing", {}, "has no 'nothing'"),
    ):
        with pytest.raises(UserError, match=message):
            open_data(TorchConfig(dataset=f"my_streets:{name}", options=options))
    with pytest.raises(UserError, match="have no splits; leave 'val' out"):
        open_data(tmp_path / "mine.yaml", "val")


def test_a_folder_cannot_have_code_run_by_being_read(tmp_path):
    (tmp_path / "data.yaml").write_text("kind: torch\ndataset: os:system\n")
    with pytest.raises(UserError, match="data of kind 'torch' run code; only a recipe or a file that you name"):
        open_data(tmp_path)


def test_opening_folders_does_not_load_torch():
    code = "import sys; import polyscale.data.open; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
