import pickle
import re

import numpy as np
import pytest

from polyscale.errors import UserError
from polyscale.labels import IGNORE, LabelClass, LabelSpace


def space(**options):
    classes = (
        LabelClass(name="road", color=(128, 64, 128), ids=(7,)),
        LabelClass(name="line", color=(255, 255, 255), ids=(9, 8)),
        LabelClass(name="sky", color=(70, 130, 180), ids=(23,)),
    )
    return LabelSpace(**{"name": "lanes", "classes": classes, "ignore_ids": (0, 1), **options})


def test_encode_maps_every_id():
    mask = np.array([[7, 8, 9], [23, 0, 1], [255, 7, 23]], np.uint8)
    train_ids = space().encode(mask)
    assert train_ids.dtype == np.uint8
    assert train_ids.tolist() == [[0, 1, 1], [2, IGNORE, IGNORE], [IGNORE, 0, 2]]


def test_decode_gives_each_classs_first_id_and_the_first_ignored_id():
    decoded = space().decode(np.array([[0, 1, 2, IGNORE]], np.uint8))
    assert decoded.dtype == np.uint8
    assert decoded.tolist() == [[7, 9, 23, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_encode_inverts_decode(seed):
    random = np.random.default_rng(seed)
    num_classes = int(random.integers(1, 40))
    ids = random.permutation(65536)[: 2 * num_classes + 3].tolist()
    classes = tuple(
        LabelClass(name=f"c{k}", color=(k, 0, 0), ids=tuple(ids[2 * k : 2 * k + 2])) for k in range(num_classes)
    )
    labels = LabelSpace(classes=classes, ignore_ids=tuple(ids[-3:]))
    train_ids = random.integers(0, num_classes + 1, (33, 47)).astype(np.uint8)
    train_ids[train_ids == num_classes] = IGNORE
    np.testing.assert_array_equal(labels.encode(labels.decode(train_ids)), train_ids)


def test_sixteen_bit_ids():
    labels = LabelSpace(
        classes=(
            LabelClass(name="a", color=(1, 2, 3), ids=(26000, 26001)),
            LabelClass(name="b", color=(0, 0, 0), ids=(255,)),
        )
    )
    mask = np.array([[26000, 26001, 255]], np.uint16)
    assert labels.encode(mask).tolist() == [[0, 0, 1]]
    assert labels.encode(mask.astype(np.int32)).tolist() == [[0, 0, 1]]
    decoded = labels.decode(np.array([[0, 1]], np.uint8))
    assert decoded.dtype == np.uint16
    assert decoded.tolist() == [[26000, 255]]


def test_a_class_without_ids_has_its_position():
    labels = LabelSpace(classes=(LabelClass(name="a", color=(0, 0, 0)), LabelClass(name="b", color=(1, 1, 1))))
    assert [item.ids for item in labels.classes] == [(0,), (1,)]
    assert labels.encode(np.array([[True, False]])).tolist() == [[1, 0]]


def test_unknown_ids_are_counted_and_named():
    mask = np.array([[7, 3, 3], [200, 7, 7]], np.uint8)
    message = "ids outside the label space 'lanes': 3 (2 px), 200 (1 px); known ids are 0-1, 7-9, 23; add them"
    with pytest.raises(UserError, match=re.escape(message)):
        space().encode(mask)


def test_many_unknown_ids_are_summed_up():
    with pytest.raises(UserError, match="and 3 more") as caught:
        space().encode(np.arange(100, 108, dtype=np.uint8)[None])
    assert "\n" not in str(caught.value)


def test_unknown_ids_are_ignored_when_asked_for():
    assert space(ignore_unknown=True).encode(np.array([[3, 7]], np.uint8)).tolist() == [[IGNORE, 0]]


@pytest.mark.parametrize(
    "mask", [np.array([[-1, 7]], np.int16), np.array([[70000]], np.int32), np.array([[-1]], np.int8)], ids=str
)
def test_ids_beyond_sixteen_bits_are_refused(mask):
    with pytest.raises(UserError, match="must lie in 0 to 65535"):
        space().encode(mask)


def test_fractions_are_no_ids():
    with pytest.raises(UserError, match="whole numbers, got an array of float32"):
        space().encode(np.zeros((2, 2), np.float32))


def test_an_empty_mask_stays_empty():
    assert space().encode(np.zeros((0, 5), np.int64)).shape == (0, 5)


def test_an_ignored_id_below_zero_is_not_written():
    # Cityscapes lists its licence plates as -1, which no PNG can hold.
    labels = space(ignore_ids=(-1, 4))
    assert labels.decode(np.array([[0, IGNORE]], np.uint8)).tolist() == [[7, 4]]
    assert space(ignore_ids=(-1,)).decode(np.array([[IGNORE]], np.uint8)).tolist() == [[255]]


def test_ignored_pixels_without_an_id_cannot_be_written():
    labels = LabelSpace(classes=(LabelClass(name="a", color=(0, 0, 0), ids=(255,)),))
    assert labels.decode(np.array([[0]], np.uint8)).tolist() == [[255]]
    with pytest.raises(UserError, match="no id for ignored pixels; add one to ignore_ids"):
        labels.decode(np.array([[IGNORE]], np.uint8))


def test_colorize_paints_classes_and_leaves_ignored_black():
    picture = space().colorize(np.array([[0, 2, IGNORE]], np.uint8))
    assert picture.dtype == np.uint8
    assert picture.tolist() == [[[128, 64, 128], [70, 130, 180], [0, 0, 0]]]


def test_names_palette_and_count():
    labels = space()
    assert labels.num_classes == 3
    assert labels.names == ("road", "line", "sky")
    assert labels.palette.shape == (3, 3)
    assert labels.palette.dtype == np.uint8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": []}, "classes"),
        ({"classes": [{"name": "a", "color": [0, 0, 256]}]}, "0 to 255"),
        ({"classes": [{"name": "a", "color": [0, 0]}]}, r"classes\.0\.color"),
        ({"classes": [{"name": "a"}]}, r"classes\.0\.color' is missing"),
        ({"classes": [{"name": "a", "color": [0, 0, 0]}] * 2}, "must differ, given twice: a"),
        ({"classes": [{"name": "a", "color": [0, 0, 0], "ids": [65536]}]}, "outside 0 to 65535"),
        (
            {"classes": [{"name": "a", "color": [0, 0, 0], "ids": [5]}, {"name": "b", "color": [0, 0, 0], "ids": [5]}]},
            "id 5 belongs to both 'a' and 'b'",
        ),
        ({"classes": [{"name": "a", "color": [0, 0, 0], "ids": [5]}], "ignore_ids": [5]}, "both ignored and of class"),
        ({"classes": [{"name": "a", "color": [0, 0, 0], "id": 5}]}, "allowed here: name, color, ids"),
    ],
)
def test_a_wrong_label_space_says_what_is_wrong(tmp_path, change, message):
    import yaml

    path = tmp_path / "labels.yaml"
    path.write_text(yaml.safe_dump({"name": "x", **change}))
    with pytest.raises(UserError, match=message) as caught:
        LabelSpace.from_yaml(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_yaml_that_is_no_label_space_is_refused(tmp_path):
    path = tmp_path / "labels.yaml"
    for text in ("- a\n", "name: x\n", ""):
        path.write_text(text)
        with pytest.raises(UserError, match="is not a label space"):
            LabelSpace.from_yaml(path)


def test_yaml_round_trip(tmp_path):
    labels = space(ignore_unknown=True, name="Straßen: 010")
    labels.to_yaml(tmp_path / "sub" / "labels.yaml")
    again = LabelSpace.from_yaml(tmp_path / "sub" / "labels.yaml")
    assert again == labels
    assert again.digest == labels.digest


def test_digest_tells_what_changes_the_reading_of_a_mask():
    base = space()
    assert space(name="another").digest == base.digest
    recoloured = tuple(item.model_copy(update={"color": (1, 1, 1)}) for item in base.classes)
    assert space(classes=recoloured).digest == base.digest
    for change in ({"classes": base.classes[::-1]}, {"ignore_ids": (0,)}, {"ignore_unknown": True}):
        assert space(**change).digest != base.digest


def test_a_used_label_space_still_compares_and_pickles():
    used = space()
    used.encode(np.array([[7]], np.uint8))
    other = space()
    other.encode(np.array([[7]], np.uint8))
    assert used == other
    assert hash(used) == hash(space())
    again = pickle.loads(pickle.dumps(used))
    assert again == used
    assert again.encode(np.array([[23]], np.uint8)).tolist() == [[2]]


@pytest.mark.parametrize("key", ["ignore_colors", "color_coded"])
def test_a_key_of_the_data_file_is_told_where_it_belongs(tmp_path, key):
    path = tmp_path / "label_space.yaml"
    path.write_text(f"classes: [{{name: a, color: [1, 2, 3]}}]\n{key}: true\n")
    with pytest.raises(UserError, match=rf"{key} is about files, .* data\.yaml in the same folder"):
        LabelSpace.from_yaml(path)


def space_of(*names):
    return LabelSpace(classes=tuple(LabelClass(name=name, color=(0, 0, 0)) for name in names))


def test_classes_are_matched_by_name_in_upper_or_lower_case():
    match = space_of("road", "sky", "Pole").match(space_of("pole", "ROAD", "car"))
    assert match.table[:4].tolist() == [2, 0, IGNORE, IGNORE]
    assert (match.lacking, match.strange) == (("sky",), ("car",))
    assert not match.same_classes


def test_the_order_of_classes_is_told_apart_from_the_classes():
    match = space_of("road", "sky").match(space_of("Sky", "road"))
    assert match.same_classes
    assert not match.same_order
    assert space_of("road", "sky").match(space_of("Road", "Sky")).same_order
    assert not space_of("road").match(space_of("road", "sky")).same_order


def test_classes_that_differ_by_case_alone_keep_their_own_name():
    assert space_of("bus", "Bus").match(space_of("Bus", "bus")).table[:2].tolist() == [1, 0]


def test_a_class_needs_a_name():
    with pytest.raises(ValueError, match="a class has a name"):
        LabelClass(name=" ", color=(1, 2, 3))
