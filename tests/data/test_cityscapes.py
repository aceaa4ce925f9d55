import shutil

import numpy as np
import pytest
from PIL import Image

from polyscale.data import check_splits, list_splits, open_data
from polyscale.data.cityscapes import CityscapesConfig, inside_border
from polyscale.data.file_data import FileData
from polyscale.data.known_spaces import known_space
from polyscale.data.streets import STREETS
from polyscale.data.streets.cityscapes import write_like_cityscapes
from polyscale.errors import UserError
from polyscale.labels import IGNORE

SIZES = {"train": 18, "val": 3, "test": 1, "train_extra": 2}


@pytest.fixture(scope="module", params=[False, pytest.param(True, marks=pytest.mark.slow)], ids=["flat", "nested"])
def root(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cityscapes") / "data"
    assert write_like_cityscapes(folder, SIZES, (64, 128), seed=1, nested=request.param) == 24
    return folder


@pytest.fixture
def copy(root, tmp_path):
    return shutil.copytree(root, tmp_path / "copy")


def names(data):
    return [item.name for item in data.items]


def cities(data):
    return {item.name.partition("/")[0] for item in data.items}


def test_the_layout_is_recognised_and_its_splits_are_listed(root):
    assert list_splits(root) == ("train", "val", "test", "train_extra")
    for split, count in SIZES.items():
        assert len(open_data(root, split)) == count
    data = open_data(f"{root}:val")
    assert isinstance(data, FileData)
    assert data.label_space == known_space("cityscapes")
    assert names(data) == [f"{city}/{city}_000000_000019" for city in ("frankfurt", "lindau", "munster")]
    both = open_data(root)
    assert (len(both), names(both)[0]) == (21, "train/aachen/aachen_000000_000019")


def test_labels_are_the_classes_that_are_scored(root):
    data = open_data(root, "train")
    labels = data.read(0).labels
    assert labels.shape == (64, 128)
    ids = np.asarray(Image.open(data.items[0].mask))
    assert set(np.unique(ids)) >= {1, 2, 3, 7, 23}  # bonnet, border, outside, road, sky
    np.testing.assert_array_equal(labels == IGNORE, ids < 7)
    drawn = {"traffic sign" if name == "sign" else name for name in STREETS.names}
    assert {data.label_space.names[k] for k in np.unique(labels) if k != IGNORE} <= drawn
    assert (open_data(root, "test").read(0).labels == IGNORE).all()


def test_extra_images_have_coarse_labels_and_those_of_a_teacher(root):
    coarse = open_data(root, "train_extra").read(0).labels
    auto = CityscapesConfig(root=root, split="train_extra", labels="auto")
    whole = open_data(auto).read(0).labels
    assert (coarse == IGNORE).mean() > (whole == IGNORE).mean() == 0
    both = (coarse != IGNORE) & (whole != IGNORE)
    assert (coarse == whole)[both].mean() > 0.95
    sure = open_data(auto.model_copy(update={"threshold": 0.5})).read(0).labels
    assert 0 < (sure == IGNORE).mean() < 0.5
    np.testing.assert_array_equal(sure[sure != IGNORE], whole[sure != IGNORE])
    assert (
        open_data(CityscapesConfig(root=root, split="train", labels="coarse"))
        .items[0]
        .mask.name.endswith("_gtCoarse_labelIds.png")
    )


def test_the_border_and_the_bonnet_can_be_ignored(root):
    config = CityscapesConfig(root=root, split="train_extra", labels="auto", ignore_border=True)
    labels = open_data(config).read(0).labels
    np.testing.assert_array_equal(labels == IGNORE, ~inside_border(64, 128))
    kept = np.argwhere(inside_border(1024, 2048))
    assert (kept.min(axis=0).tolist(), kept.max(axis=0).tolist()) == ([15, 14], [839, 2029])


def test_the_folds_hold_out_other_cities_and_share_none(root):
    held_out = [open_data(CityscapesConfig(root=root, split="val", fold=fold)) for fold in range(3)]
    assert cities(held_out[0]) == {"frankfurt", "lindau", "munster"}
    assert cities(held_out[1]) == {"darmstadt", "dusseldorf", "erfurt"}
    assert cities(held_out[2]) == {"monchengladbach", "strasbourg", "stuttgart"}
    for fold in range(3):
        train = open_data(CityscapesConfig(root=root, split="train", fold=fold))
        assert len(train) == 18
        assert not cities(train) & cities(held_out[fold])
        assert len(cities(train) | cities(held_out[fold])) == 21


def test_splits_are_usable_as_they_are(root):
    reports = check_splits({split: open_data(root, split, lenient=True) for split in ("train", "val")})
    assert all(report.usable for report in reports.values())
    assert [report.num_masks for report in reports.values()] == [18, 3]


def test_a_half_unpacked_zip_is_told_with_its_cities(copy):
    for path in copy.glob("**/gtFine/train/b*"):
        shutil.rmtree(path)
    with pytest.raises(UserError, match=r"has no labels of bochum, bremen \(2 of 18 cities\): gtFine_trainvaltest.zip"):
        open_data(copy, "train")
    next(copy.glob("**/gtFine/val/lindau/*_labelIds.png")).unlink()
    shutil.rmtree(next(copy.glob("**/gtFine/train")))
    with pytest.raises(UserError, match="has no labels of lindau"):
        open_data(copy, "val")
    with pytest.raises(UserError, match=r"no fine labels of Cityscapes' split train: neither gtFine/train nor gtFine_"):
        open_data(copy, "train")
    assert len(open_data(CityscapesConfig(root=copy, split="train", masks="none"))) == 18


def test_a_missing_label_is_named(copy):
    path = next(copy.glob("**/gtFine/val/lindau/*_labelIds.png"))
    extra = next(copy.glob("**/leftImg8bit/val/lindau/*.png"))
    shutil.copy(extra, extra.with_name("lindau_000001_000019_leftImg8bit.png"))
    with pytest.raises(UserError, match=r"1 of 4 images in .* have no mask: .*lindau_000001_000019_leftImg8bit\.png"):
        open_data(copy, "val")
    assert path.exists()


def test_an_unknown_split_is_one_line(root):
    with pytest.raises(UserError, match="no split 'trainval'.*; its splits are train, val, test, train_extra"):
        open_data(root, "trainval")


def test_drawing_again_draws_nothing(tmp_path):
    assert write_like_cityscapes(tmp_path / "a", {"train": 2}, (64, 128)) == 2
    assert write_like_cityscapes(tmp_path / "a", {"train": 2}, (64, 128)) == 0
    with pytest.raises(UserError, match="other arguments"):
        write_like_cityscapes(tmp_path / "a", {"train": 3}, (64, 128))
