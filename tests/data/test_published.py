import numpy as np
import pytest
from PIL import Image

from polyscale.data import list_splits, open_data
from polyscale.data.known_spaces import known_space, known_spaces
from polyscale.data.open import KINDS
from polyscale.data.published import PUBLISHED, PublishedConfig
from polyscale.errors import UserError
from polyscale.labels import IGNORE

MINIATURES = {
    "ade20k": {
        "images/training/ADE_train_1.jpg": "annotations/training/ADE_train_1.png",
        "images/validation/ADE_val_1.jpg": "annotations/validation/ADE_val_1.png",
    },
    "voc": {
        "JPEGImages/2007_000001.jpg": "SegmentationClass/2007_000001.png",
        "JPEGImages/2007_000002.jpg": "SegmentationClass/2007_000002.png",
        "JPEGImages/2008_000009.jpg": None,
    },
    "bdd100k": {
        "images/10k/train/0a.jpg": "labels/sem_seg/masks/train/0a.png",
        "images/10k/val/0b.jpg": "labels/sem_seg/masks/val/0b.png",
    },
    "coco-stuff": {
        "images/train2017/000001.jpg": "annotations/train2017/000001.png",
        "images/val2017/000002.jpg": "annotations/val2017/000002.png",
    },
    "kitti": {"training/image_2/000000_10.png": "training/semantic/000000_10.png"},
    "loveda": {
        "Train/Rural/images_png/0.png": "Train/Rural/masks_png/0.png",
        "Train/Urban/images_png/0.png": "Train/Urban/masks_png/0.png",
        "Val/Urban/images_png/3.png": "Val/Urban/masks_png/3.png",
    },
}
WANTED = {  # names of train, splits, an id with its class, an id that is ignored
    "ade20k": (["ADE_train_1"], ("train", "val"), (1, "wall"), 0),
    "voc": (["2007_000001"], ("train", "val"), (15, "person"), 255),
    "bdd100k": (["0a"], ("train", "val"), (13, "car"), 255),
    "coco-stuff": (["000001"], ("train", "val"), (181, "wood"), 11),
    "kitti": (["000000_10"], ("train",), (26, "car"), 5),
    "loveda": (["Rural/0", "Urban/0"], ("train", "val"), (3, "road"), 0),
}


@pytest.fixture(params=list(PUBLISHED))
def miniature(request, tmp_path):
    _, _, (number, _), ignored = WANTED[request.param]
    for image, mask in MINIATURES[request.param].items():
        for path in filter(None, (image, mask)):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 4), (200, 100, 50)).save(tmp_path / image)
        if mask is not None:
            ids = np.full((4, 5), number, np.uint8)
            ids[0] = ignored
            picture = Image.fromarray(ids)
            if request.param == "voc":
                picture.putpalette(list(range(256)) * 3)
            picture.save(tmp_path / mask)
    if request.param == "voc":
        lists = tmp_path / "ImageSets/Segmentation"
        lists.mkdir(parents=True)
        (lists / "train.txt").write_text("2007_000001\n")
        (lists / "val.txt").write_text("2007_000002\n")
    return request.param, tmp_path


def test_a_published_layout_is_recognised_and_read(miniature):
    kind, root = miniature
    names, splits, (_, title), _ = WANTED[kind]
    assert list_splits(root) == splits
    data = open_data(root, "train")
    assert [item.name for item in data.items] == names
    labels = data.read(0).labels
    assert (labels[0] == IGNORE).all()
    assert {data.label_space.names[k] for k in np.unique(labels[1:])} == {title}
    assert open_data(root).items == data.items  # train, where no split is named
    if "val" in splits:
        assert len(open_data(root, "val")) == 1
        assert len(open_data(PublishedConfig(kind=kind, root=root, split=("train", "val")))) == len(names) + 1
    with pytest.raises(UserError, match=f"data of kind '{kind}' have no split 'none'"):
        open_data(root, "none")


def test_it_can_be_named_in_a_file(miniature, tmp_path):
    kind, root = miniature
    (tmp_path / "mine.yaml").write_text(f"kind: {kind}\nroot: {root}\nsplit: train\n")
    assert len(open_data(tmp_path / "mine.yaml")) == len(WANTED[kind][0])


def test_every_label_space_that_comes_along_can_be_read():
    spaces = {name: known_space(name) for name in known_spaces()}
    assert {name: space.name for name, space in spaces.items()} == {name: name for name in spaces}
    sizes = {name: space.num_classes for name, space in spaces.items()}
    assert (sizes["ade20k"], sizes["voc"], sizes["coco-stuff"], sizes["loveda"]) == (150, 21, 171, 7)
    assert spaces["cityscapes-train-ids"].names == spaces["cityscapes"].names
    every = known_space("cityscapes-all")
    assert every.encode(np.arange(34)[None]).tolist() == [list(range(34))]
    assert set(spaces["cityscapes"].names) < set(every.names)
    stuff = known_space("coco-stuff").encode(np.arange(182)[None])
    assert (stuff != IGNORE).sum() == 171


def test_kinds_have_different_names():
    names = [name for kind in KINDS for name in kind.model_json_schema()["properties"]["kind"].get("enum", [kind])]
    assert len(names) == len(set(map(str, names)))
