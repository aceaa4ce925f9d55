import pickle

import numpy as np
import pytest
from PIL import Image

from polyscale.config import validate
from polyscale.data.folders import FolderConfig, MissingLabelSpaceError, folder_splits
from polyscale.data.items import DataError
from polyscale.errors import UserError
from polyscale.labels import IGNORE, LabelClass, LabelSpace

SPACE = LabelSpace(
    name="two",
    classes=(
        LabelClass(name="road", color=(10, 20, 30), ids=(7,)),
        LabelClass(name="sky", color=(70, 80, 90), ids=(23,)),
    ),
    ignore_ids=(0,),
)
IMAGE = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
MASK = np.array([[7, 7, 7, 23, 23, 0]] * 4, np.uint8)
LABELS = np.array([[0, 0, 0, 1, 1, IGNORE]] * 4, np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def opened(config, label_space=None, lenient=False):
    return config.open(label_space, lenient)


@pytest.fixture
def root(tmp_path):
    SPACE.to_yaml(tmp_path / "label_space.yaml")
    return tmp_path


def plain(root, *names, images="images", masks="masks"):
    for name in names:
        save(root / images / f"{name}.png", IMAGE)
        save(root / masks / f"{name}.png", MASK)


def names(data):
    return [item.name for item in data.items]


def test_split_folders_give_samples_with_train_ids(root):
    plain(root, "train/b", "train/city/a", "val/c")
    data = opened(FolderConfig(root=root, split="train"))
    assert names(data) == ["b", "city/a"]
    assert data.label_space == SPACE
    sample = data.read(1)
    assert sample.name == "city/a"
    np.testing.assert_array_equal(sample.image, IMAGE)
    np.testing.assert_array_equal(sample.labels, LABELS)
    assert sample.labels.dtype == np.uint8


def test_without_a_split_all_images_are_read(root):
    plain(root, "train/b", "val/c")
    assert names(opened(FolderConfig(root=root))) == ["train/b", "val/c"]


def test_several_splits_keep_their_names_apart_and_patterns_mean_names_within(root):
    plain(root, "train/b", "train/a1", "val/b")
    config = FolderConfig(root=root, split=("train", "val"))
    assert names(opened(config)) == ["train/a1", "train/b", "val/b"]
    assert names(opened(config.model_copy(update={"exclude": ("a*",)}))) == ["train/b", "val/b"]
    assert names(opened(config.model_copy(update={"exclude": ("train/b",)}))) == ["train/a1", "val/b"]


def test_images_within_each_split(root):
    plain(root, "a", images="train/images", masks="train/masks")
    plain(root, "b", images="val/images", masks="val/masks")
    assert names(opened(FolderConfig(root=root, split="val"))) == ["b"]
    with pytest.raises(UserError, match="an images folder in each split; set split to one of train, val"):
        opened(FolderConfig(root=root))


@pytest.mark.parametrize("place", ["train.txt", "splits/train.txt"])
def test_split_files_are_found_by_the_split(root, place):
    plain(root, "a", "b", "c")
    (root / place).parent.mkdir(exist_ok=True)
    (root / place).write_text("c\na\n")
    assert names(opened(FolderConfig(root=root, split="train"))) == ["a", "c"]
    assert folder_splits(root) == ("train",)


def test_split_files_can_be_named(root):
    plain(root, "a", "b")
    (root / "lists").mkdir()
    (root / "lists/hold_out.lst").write_text("b\n")
    assert names(opened(FolderConfig(root=root, split_file="lists/hold_out.lst"))) == ["b"]
    by_split = FolderConfig(root=root, split="hold_out", split_file="lists/{split}.lst")
    assert names(opened(by_split)) == ["b"]
    with pytest.raises(UserError, match=r"no such split file: .*lists/none\.lst"):
        opened(by_split.model_copy(update={"split": "none"}))
    with pytest.raises(UserError, match=r"has \{split\}, but no split is given"):
        opened(by_split.model_copy(update={"split": None}))


def test_templates_of_cityscapes(root):
    for stem in ("aachen/aachen_000000_000019", "ulm/ulm_000001_000019"):
        save(root / f"leftImg8bit/train/{stem}_leftImg8bit.png", IMAGE)
        save(root / f"gtFine/train/{stem}_gtFine_labelIds.png", MASK)
        save(root / f"gtFine/train/{stem}_gtFine_color.png", IMAGE)
    data = opened(
        FolderConfig(
            root=root,
            split="train",
            image="leftImg8bit/{split}/{name}_leftImg8bit.png",
            mask="gtFine/{split}/{name}_gtFine_labelIds.png",
        )
    )
    assert names(data) == ["aachen/aachen_000000_000019", "ulm/ulm_000001_000019"]
    assert data.orphans == ()
    np.testing.assert_array_equal(data.read(0).labels, LABELS)


def test_masks_without_image_are_kept_for_the_check(root):
    plain(root, "a", "b")
    (root / "images/a.png").unlink()
    assert opened(FolderConfig(root=root)).orphans == (root / "masks/a.png",)


def test_images_without_mask_are_refused_allowed_or_not_looked_for(root):
    plain(root, *"abcde")
    for name in "abce":
        (root / f"masks/{name}.png").unlink()
    config = FolderConfig(root=root)
    with pytest.raises(
        UserError, match=r"4 of 5 images in .* have no mask: .*a\.png, .*b\.png, .*c\.png and 1 more; add"
    ) as caught:
        opened(config)
    assert caught.value.kind == "missing"
    lenient = opened(config, lenient=True)
    assert lenient.masks_required
    assert lenient.read(0).labels is None
    optional = opened(config.model_copy(update={"masks": "optional"}))
    assert [item.mask is None for item in optional.items] == [True, True, True, False, True]
    assert optional.read(3).labels is not None
    none = opened(config.model_copy(update={"masks": "none"}))
    assert [item.mask for item in none.items] == [None] * 5


@pytest.mark.parametrize("masks", ["optional", "none"])
def test_without_masks_no_folder_of_masks_is_needed(root, masks):
    save(root / "images/a.png", IMAGE)
    assert opened(FolderConfig(root=root, masks=masks)).read(0).labels is None
    with pytest.raises(UserError, match=r"no folder .*masks for the masks"):
        opened(FolderConfig(root=root))


def test_a_mask_of_another_size_is_refused(root):
    plain(root, "a")
    save(root / "masks/a.png", MASK[:3])
    with pytest.raises(
        DataError, match=r"masks/a\.png is 6 x 3 pixels, but .*images/a\.png is 6 x 4; a mask has one id"
    ) as caught:
        opened(FolderConfig(root=root)).read(0)
    assert caught.value.kind == "size"


def test_a_mask_of_the_image_before_its_rotation_is_explained(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(root / "images/a.png", IMAGE, exif=exif)
    save(root / "masks/a.png", MASK)
    with pytest.raises(UserError, match="shown rotated by its EXIF data while the mask fits the stored pixels"):
        opened(FolderConfig(root=root)).read(0)
    save(root / "masks/a.png", np.rot90(MASK, -1).copy())
    np.testing.assert_array_equal(opened(FolderConfig(root=root)).read(0).labels, np.rot90(LABELS, -1))


def test_ids_outside_the_label_space_name_the_mask(root):
    plain(root, "a")
    save(root / "masks/a.png", MASK + 1)
    with pytest.raises(
        DataError, match=r"masks/a\.png: ids outside the label space 'two': 1 \(4 px\), 8 \(12 px\)"
    ) as caught:
        opened(FolderConfig(root=root)).read(0)
    assert caught.value.kind == "ids"


def test_a_palette_mask_is_read_as_ids_and_an_rgb_mask_is_refused(root):
    save(root / "images/a.png", IMAGE)
    save(root / "images/b.png", IMAGE)
    palette = Image.fromarray(MASK)
    palette.putpalette(np.random.default_rng(1).integers(0, 256, (24, 3), dtype=np.uint8).tobytes())
    (root / "masks").mkdir()
    palette.save(root / "masks/a.png")
    palette.convert("RGB").save(root / "masks/b.png")
    data = opened(FolderConfig(root=root))
    np.testing.assert_array_equal(data.read(0).labels, LABELS)
    with pytest.raises(UserError, match=r"masks/b\.png holds colours .* color_coded: true"):
        data.read(1)


def test_16_bit_masks_use_16_bit_ids(root):
    space = SPACE.model_copy(update={"classes": (LabelClass(name="far", color=(1, 2, 3), ids=(1007,)),)})
    space.to_yaml(root / "label_space.yaml")
    save(root / "images/a.png", IMAGE)
    save(root / "masks/a.png", np.where(MASK == 7, 1007, 0).astype(np.uint16))
    labels = opened(FolderConfig(root=root)).read(0).labels
    np.testing.assert_array_equal(labels, np.where(MASK == 7, 0, IGNORE))


def test_colour_coded_masks(root):
    save(root / "images/a.png", IMAGE)
    colors = SPACE.colorize(LABELS)
    colors[0, 0] = (1, 1, 1)
    save(root / "masks/a.png", colors)
    with pytest.raises(UserError, match=r"\(1, 1, 1\) \(1 px\)"):
        opened(FolderConfig(root=root, color_coded=True)).read(0)
    labels = opened(FolderConfig(root=root, color_coded=True, ignore_colors=((0, 0, 0), (1, 1, 1)))).read(0).labels
    assert labels[0].tolist() == [IGNORE, 0, 0, 1, 1, IGNORE]


def test_the_label_space_is_named_found_or_given(root, monkeypatch):
    plain(root, "a")
    named = SPACE.model_copy(update={"name": "named"})
    named.to_yaml(root / "spaces/other.yaml")
    assert opened(FolderConfig(root=root, label_space="spaces/other.yaml")).label_space.name == "named"
    assert opened(FolderConfig(root=root, label_space="cityscapes")).label_space.num_classes == 19
    monkeypatch.chdir(root / "spaces")
    assert opened(FolderConfig(root=root, label_space="other.yaml")).label_space.name == "named"
    given = SPACE.model_copy(update={"name": "given"})
    assert opened(FolderConfig(root=root), given).label_space.name == "two"
    (root / "label_space.yaml").unlink()
    assert opened(FolderConfig(root=root), given).label_space.name == "given"
    with pytest.raises(MissingLabelSpaceError, match=r"has no label_space\.yaml: write one .*`polyscale data check "):
        opened(FolderConfig(root=root))
    with pytest.raises(UserError, match=r"no such file: none\.yaml"):
        opened(FolderConfig(root=root, label_space="none.yaml"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"root": "x", "maskes": "none"},
            "unknown key 'maskes' .did you mean 'masks'.*; allowed here: kind, root, split",
        ),
        ({}, "key 'root' is missing"),
        ({"root": "x", "image": "images/*.png", "mask": "m/{name}"}, r"image: a file-name template needs \{name\}"),
        ({"root": "x", "image": "images/{name}.png"}, "template image needs its counterpart mask"),
        ({"root": "x", "split": []}, "split is an empty list"),
    ],
)
def test_a_wrong_config_is_one_line(values, message):
    with pytest.raises(UserError, match=message) as caught:
        validate(FolderConfig, values)
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_named(root):
    with pytest.raises(UserError, match=r"no such data folder: .*nowhere"):
        opened(FolderConfig(root=root / "nowhere"))
    with pytest.raises(UserError, match=r"label_space\.yaml is a file, not a data folder"):
        opened(FolderConfig(root=root / "label_space.yaml"))
    plain(root, "train/a")
    with pytest.raises(UserError, match=r"has no split 'vall'.*; splits there: train"):
        opened(FolderConfig(root=root, split="vall"))
    (root / "images/train/a.png").unlink()
    with pytest.raises(UserError, match=r"there are no images in .* \(train\)"):
        opened(FolderConfig(root=root, split="train"))


def test_a_data_set_survives_the_way_to_a_worker(root):
    plain(root, "a")
    data = pickle.loads(pickle.dumps(opened(FolderConfig(root=root))))
    np.testing.assert_array_equal(data.read(0).labels, LABELS)
