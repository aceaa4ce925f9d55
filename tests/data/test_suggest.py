import numpy as np
import pytest
from PIL import Image

from polyscale.data import CamVidConfig, MissingLabelSpaceError, open_data
from polyscale.data.suggest import suggest_label_space
from polyscale.errors import UserError
from polyscale.labels import IGNORE, LabelSpace

MASKS = [np.array([[3, 3, 255, 7]], np.uint8), np.array([[3, 3, 3, 3]], np.uint8)]


def write(root, masks):
    for position, mask in enumerate(masks):
        image = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
        for folder in ("images", "masks"):
            (root / folder).mkdir(exist_ok=True)
        Image.new("RGB", image.size).save(root / f"images/{position}.jpg")
        image.save(root / f"masks/{position}.png")


def saved(root, text):
    (root / "label_space.yaml").write_text(text)
    return LabelSpace.from_yaml(root / "label_space.yaml")


def test_ids_become_classes_and_255_is_ignored(tmp_path):
    write(tmp_path, MASKS)
    with pytest.raises(MissingLabelSpaceError):
        open_data(tmp_path)
    steps = []
    text = suggest_label_space(tmp_path, progress=lambda *step: steps.append(step))
    assert steps == [(1, 2), (2, 2)]
    assert "ids: [3]}  # 75.00 % of the pixels, in 2 masks" in text
    assert "# id 255 is 12.50 % of the pixels, in 1 masks: ignored" in text
    space = saved(tmp_path, text)
    assert [(item.name, item.ids) for item in space.classes] == [("class_3", (3,)), ("class_7", (7,))]
    assert (space.name, space.ignore_ids) == (tmp_path.name, (255,))
    assert open_data(tmp_path).read(0).labels.tolist() == [[0, 0, IGNORE, 1]]


def test_colours_are_those_of_a_palette(tmp_path):
    colors = np.random.default_rng(0).integers(0, 256, (8, 3), dtype=np.uint8)
    images = []
    for mask in MASKS:
        images.append(Image.fromarray(mask % 8))
        images[-1].putpalette(colors.tobytes())
    write(tmp_path, images)
    assert saved(tmp_path, suggest_label_space(tmp_path)).palette.tolist() == colors[[3, 7]].tolist()


def test_without_a_palette_all_colours_differ(tmp_path):
    write(tmp_path, [np.arange(200, dtype=np.uint8).reshape(10, 20)])
    palette = saved(tmp_path, suggest_label_space(tmp_path)).palette
    assert len({tuple(color) for color in palette.tolist()}) == 200


def test_black_and_white_masks_have_two_classes(tmp_path):
    write(tmp_path, [np.array([[0, 255]], np.uint8)])
    space = saved(tmp_path, suggest_label_space(tmp_path))
    assert [item.ids for item in space.classes] == [(0,), (255,)]
    assert open_data(tmp_path).read(0).labels.tolist() == [[0, 1]]


def test_colours_become_classes_and_black_is_ignored(tmp_path):
    write(tmp_path, [np.array([[(0, 0, 0), (128, 64, 128), (0, 0, 142)]], np.uint8)])
    text = suggest_label_space(tmp_path)
    assert "color_coded: true" in text
    assert saved(tmp_path, text).palette.tolist() == [[0, 0, 142], [128, 64, 128]]
    (tmp_path / "data.yaml").write_text("color_coded: true")
    assert open_data(tmp_path).read(0).labels.tolist() == [[IGNORE, 1, 0]]


RED, BLUE = (255, 0, 0), (0, 0, 255)


def painted(colors, numbered):
    """A palette picture of (H, W) colours, numbered in the order given."""
    image = Image.fromarray(np.array([[numbered.index(color) for color in row] for row in colors], np.uint8))
    image.putpalette([channel for color in numbered for channel in color])
    return image


def test_masks_whose_palettes_differ_are_read_by_their_colours(tmp_path):
    write(tmp_path, [painted([[RED, RED, BLUE]], [RED, BLUE]), painted([[BLUE, RED, BLUE]], [BLUE, RED])])
    text = suggest_label_space(tmp_path)
    assert "color_coded: true" in text
    assert "0.png have different palettes" in text
    space = saved(tmp_path, text)
    assert space.palette.tolist() == [list(BLUE), list(RED)]
    (tmp_path / "data.yaml").write_text("color_coded: true")
    data = open_data(tmp_path)
    assert [data.read(k).labels.tolist() for k in range(2)] == [[[1, 1, 0]], [[0, 1, 0]]]


def test_rgb_palette_and_grey_masks_of_one_set_are_read_by_their_colours(tmp_path):
    rgb = Image.fromarray(np.array([[RED, (0, 0, 0), BLUE]], np.uint8))
    white = np.array([[255, 0, 255]], np.uint8)
    write(tmp_path, [painted([[RED, BLUE, RED]], [RED, BLUE]), rgb, white])
    text = suggest_label_space(tmp_path)
    assert "# 2.png is grey: its values count as colours here" in text
    assert saved(tmp_path, text).palette.tolist() == [list(BLUE), list(RED), [255, 255, 255]]
    (tmp_path / "data.yaml").write_text("color_coded: true")
    data = open_data(tmp_path)
    assert [data.read(k).labels.tolist() for k in range(3)] == [[[1, 0, 1]], [[1, IGNORE, 0]], [[2, IGNORE, 2]]]


def test_what_cannot_be_classes_is_refused(tmp_path):
    write(tmp_path, [np.arange(400, dtype=np.uint16).reshape(20, 20)])
    with pytest.raises(UserError, match=r"more than 255 different ids, too many .*0\.png a picture"):
        suggest_label_space(tmp_path)
    write(tmp_path, [np.array([[300]], np.uint16), np.zeros((1, 4, 3), np.uint8)])
    with pytest.raises(UserError, match=r"0\.png holds ids and .*1\.png colours"):
        suggest_label_space(tmp_path)
    with pytest.raises(UserError, match="kind 'camvid' have a label space of their own"):
        suggest_label_space(CamVidConfig(root=tmp_path))


def test_masks_of_all_splits_are_read(tmp_path):
    for split, mask in zip(("train", "val"), MASKS, strict=True):
        (tmp_path / split).mkdir()
        write(tmp_path / split, [mask])
    assert "from 2 masks" in suggest_label_space(tmp_path)
    assert "from 1 masks" in suggest_label_space(tmp_path, "val")


def test_masks_are_needed(tmp_path):
    write(tmp_path, MASKS)
    for path in (tmp_path / "masks").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="there are no masks"):
        suggest_label_space(tmp_path)
