import subprocess
import sys

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from polyscale import pictures
from polyscale.labels import IGNORE, LabelSpace


@pytest.fixture
def image(photo):
    return photo(6, 8)


@pytest.fixture
def labels():
    labels = np.zeros((6, 8), np.uint8)
    labels[:, 5:] = 1
    labels[2:4, 2] = 2
    return labels


def test_a_heat_map_shows_viridis_and_keeps_its_values(tmp_path):
    values = np.linspace(0, 1, 256, dtype=np.float32)[None]
    picture = pictures.heat_map(values)
    picture.save(tmp_path / "heat.png")
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "heat.png"))[0], np.arange(256))
    expected = 255 * colormaps["viridis"](np.arange(256))[:, :3]
    assert np.abs(np.array(picture.convert("RGB"))[0] - expected).max() < 6


def test_values_outside_the_range_are_clipped():
    assert pictures.to_grey8(np.array([[-1, 0, 0.5, 1, 7, np.nan]])).tolist() == [[0, 0, 128, 255, 255, 0]]


def test_a_label_map_is_a_mask_of_the_data_set(space, labels, tmp_path):
    labels[0, 0] = IGNORE
    pictures.label_map(labels, space).save(tmp_path / "mask.png")
    read = Image.open(tmp_path / "mask.png")
    assert read.mode == "P"
    assert set(np.unique(read)) == {0, 7, 17, 23}
    np.testing.assert_array_equal(space.encode(np.array(read)), labels)
    shown = np.array(read.convert("RGB"))
    np.testing.assert_array_equal(shown, space.colorize(labels))


def test_ids_above_255_become_sixteen_bits(labels, tmp_path):
    classes = [
        {"name": name, "color": (1, 2, 3), "ids": (start,)} for name, start in (("a", 7001), ("b", 2), ("c", 300))
    ]
    space = LabelSpace.model_validate({"classes": classes})
    pictures.label_map(labels, space).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(space.encode(np.array(Image.open(tmp_path / "mask.png"))), labels)


def test_boundaries_lie_where_a_neighbour_to_the_right_or_below_differs():
    labels = np.array([[0, 0, 1], [0, 0, 1], [2, 2, 2]])
    expected = [[False, True, False], [True, True, True], [False, False, False]]
    assert pictures.boundaries(labels).tolist() == expected


def test_an_overlay_blends_and_leaves_ignored_pixels_alone(image, labels, space):
    labels[0, 0] = IGNORE
    blended = np.array(pictures.overlay(image, labels, space, alpha=0.25)).astype(float)
    expected = 0.75 * image + 0.25 * space.colorize(labels)
    expected[0, 0] = image[0, 0]
    np.testing.assert_allclose(blended, expected, atol=0.51)
    np.testing.assert_array_equal(pictures.overlay(image, labels, space, alpha=0), image)
    opaque = np.array(pictures.overlay(image, labels, space, alpha=1))
    np.testing.assert_array_equal(opaque[1:], space.colorize(labels)[1:])
    with pytest.raises(ValueError, match="alpha must lie in 0 to 1"):
        pictures.overlay(image, labels, space, alpha=1.5)


def test_lines_show_a_class_of_one_pixels_width_in_full_colour(image, labels, space):
    drawn = np.array(pictures.overlay(image, labels, space, alpha=0.5, lines=True))
    assert drawn[2, 2].tolist() == drawn[3, 2].tolist() == [153, 153, 153]
    plain = np.array(pictures.overlay(image, labels, space, alpha=0.5))
    np.testing.assert_array_equal(drawn[5, :4], plain[5, :4])


def test_an_error_map_is_red_where_wrong_black_where_ignored_grey_elsewhere(image, labels):
    truth = labels.copy()
    truth[0, 0] = 2
    truth[5, 7] = IGNORE
    shown = np.array(pictures.error_map(image, labels, truth)).astype(int)
    assert shown[5, 7].tolist() == [0, 0, 0]
    red, green, blue = shown[0, 0]
    assert red > 180
    assert green < 90
    assert blue < 90
    rest = (labels == truth) & (truth != IGNORE)
    assert (shown[rest].min(axis=1) == shown[rest].max(axis=1)).all()
    assert shown[rest].min() >= 96


def test_a_legend_names_all_classes_in_their_colours(space):
    wide, narrow = pictures.legend(space, 600), pictures.legend(space, 90)
    assert wide.width == 600
    assert narrow.height > 2 * wide.height > 0
    for picture in (wide, narrow):
        present = {color for _, color in picture.getcolors(100_000)}
        assert present >= {tuple(color) for color in space.palette.tolist()}


def test_a_panel_sets_pictures_side_by_side(image):
    first, second = Image.fromarray(image), Image.new("RGB", (30, 5), (1, 200, 3))
    sheet = pictures.panel([("one", first), ("two", second), ("a caption far too long", first)], 2, gap=10)
    assert sheet.width == 10 + 8 + 10 + 30 + 10
    pixels = np.array(sheet)
    rows, columns = np.where((pixels == (1, 200, 3)).all(axis=2))
    assert (columns.min(), columns.max()) == (28, 57)
    assert rows.max() - rows.min() == 4
    np.testing.assert_array_equal(pixels[rows.min() : rows.min() + 6, 10:18], image)
    with_footer = pictures.panel([("one", first)], 3, footer=Image.new("RGB", (200, 9), (9, 9, 9)))
    assert with_footer.width == 224
    for bad in (([], 2), ([("one", first)], 0)):
        with pytest.raises(ValueError, match="at least one picture and one column"):
            pictures.panel(*bad)


def test_pictures_do_not_wait_for_torch():
    script = "import sys, polyscale.pictures; print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert shown == "False False\n"
