"""Several data sets as one: order, classes by name, class positions, weights, and what a user can get wrong."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from polyscale.config import validate
from polyscale.crops import MixConfig, class_centroids, open_training_data
from polyscale.data import open_data
from polyscale.errors import UserError
from polyscale.labels import IGNORE, LabelClass, LabelSpace

NAMES = ("road", "car", "pole")
LEVELS = [0.0, 0.5, 0.75, 1.0]


def describe(root, levels, stride=1, coarse=None):
    values = {"confidence_levels": levels, "confidence_stride": stride, "settings": {"coarse_labels": coarse}}
    (root / "autolabel.json").write_text(json.dumps(values))


def folder(root, count, names=NAMES, ids=(0, 1, 2), seed=0, levels=None):
    """A plain folder of random masks; ``levels`` makes it one of auto-labels with confidence maps."""
    rng = np.random.default_rng(seed)
    space = LabelSpace(
        name=root.name,
        classes=tuple(
            LabelClass(name=n, color=(9, 9, k), ids=(i,)) for k, (n, i) in enumerate(zip(names, ids, strict=True))
        ),
    )
    for kind in ("images", "masks", "confidence"):
        (root / kind).mkdir(parents=True)
    space.to_yaml(root / "label_space.yaml")
    for index in range(count):
        labels = rng.integers(0, len(names), (12, 14)).astype(np.uint8)
        labels[:2] = IGNORE
        Image.fromarray(rng.integers(0, 256, (12, 14, 3), np.uint8)).save(root / f"images/{index:02}.png")
        Image.fromarray(space.decode(labels)).save(root / f"masks/{index:02}.png")
        Image.fromarray(rng.integers(0, len(LEVELS), (12, 14)).astype(np.uint8)).save(
            root / f"confidence/{index:02}.png"
        )
    if levels is not None:
        describe(root, levels)
    return str(root)


@pytest.fixture
def roots(tmp_path):
    return folder(tmp_path / "fine", 4), folder(tmp_path / "auto", 6, seed=1, levels=LEVELS)


def mix(roots, first=None, second=None, **options):
    fine, auto = roots
    sources = {"fine": {"data": fine, **(first or {})}, "auto": {"data": auto, **(second or {})}}
    return open_training_data(validate(MixConfig, {"kind": "mix", "sources": sources, **options}))


def test_items_stand_source_after_source(roots):
    data = mix(roots)
    assert [item.name for item in data.items] == [f"fine/{k:02}" for k in range(4)] + [f"auto/{k:02}" for k in range(6)]
    assert len(data) == 10
    for place, (root, index) in {0: (0, 0), 3: (0, 3), 4: (1, 0), 9: (1, 5)}.items():
        wanted, got = open_data(roots[root]).read(index), data.read(place)
        assert got.name == data.items[place].name
        assert np.array_equal(got.image, wanted.image)
        assert np.array_equal(got.labels, wanted.labels)
    assert np.array_equal(pickle.loads(pickle.dumps(data)).read(7).labels, data.read(7).labels)


def test_classes_are_joined_by_name_whatever_their_order_and_ids(tmp_path):
    fine = folder(tmp_path / "fine", 2)
    auto = folder(tmp_path / "auto", 2, names=("Pole", "road", "car"), ids=(70, 8, 19))
    data = mix((fine, auto))
    own = open_data(auto).read(1).labels
    seen = data.read(3).labels
    for own_id, name in enumerate(("pole", "road", "car")):
        assert np.array_equal(own == own_id, seen == NAMES.index(name))
    assert np.array_equal(own == IGNORE, seen == IGNORE)
    assert (own == IGNORE).any()


def test_class_positions_are_those_of_the_mix_read_as_a_whole(tmp_path):
    data = mix((folder(tmp_path / "fine", 2), folder(tmp_path / "auto", 3, names=("pole", "road", "car"))))
    table = data.centroids(8, tmp_path / "cache")
    whole = class_centroids(data, 8)
    assert table.names == whole.names == NAMES
    rows = [sorted(zip(*(column.tolist() for column in found[1:]), strict=True)) for found in (table, whole)]
    assert rows[0] == rows[1]
    assert {row[0] for row in rows[0]} == set(range(5))
    caches = sorted((tmp_path / "cache").iterdir())
    assert len(caches) == 2, "each source has its own"


def test_other_classes_are_refused_and_both_sources_named(tmp_path):
    roots = folder(tmp_path / "fine", 1), folder(tmp_path / "auto", 1, names=("road", "car", "bus"))
    with pytest.raises(UserError, match=r"'fine' .* and 'auto' .*: only 'fine' has pole; only 'auto' has bus; give"):
        mix(roots)


def test_balance_and_ratios_decide_the_length_of_an_epoch(roots):
    assert mix(roots).epoch_length == 8
    assert mix(roots, balance="all").epoch_length == 10
    assert mix(roots, second={"ratio": 2.5}).epoch_length == 14
    assert mix(roots, balance="all").importance.tolist() == [1.0] * 10
    np.testing.assert_allclose(mix(roots).importance, [1.0] * 4 + [4 / 6] * 6)
    said = mix(roots, second={"until_epoch": 3}).describe(8)
    assert said == "an epoch of 8 crops mixes fine 4 (4 images), auto 4 (6 images, until epoch 3)"


def test_weights_are_the_sources_times_the_confidence_of_the_pixel(roots):
    data = mix(roots, second={"weight": 0.5, "confidence_power": 2.0})
    assert data.weighting == "pixel"
    assert data.read_weights(3, (12, 14)) == (1.0, None, None)
    weight, levels, factors = data.read_weights(5, (12, 14))
    assert weight == 0.5
    assert np.array_equal(levels, np.asarray(Image.open(f"{roots[1]}/confidence/01.png")))
    np.testing.assert_allclose(factors, [0.0, 0.25, 0.5625, 1.0])
    assert mix(roots, second={"weight": 0.5}).weighting == "image"
    assert mix(roots).weighting == "none"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: (root / "autolabel.json").unlink(), r"source 'auto': .* no readable autolabel\.json"),
        (
            lambda root: describe(root, None),
            "without confidence maps",
        ),
    ],
)
def test_missing_confidence_maps_are_told_when_the_mix_is_opened(roots, tmp_path, spoil, message):
    spoil(tmp_path / "auto")
    with pytest.raises(UserError, match=message):
        mix(roots, second={"confidence_power": 1})


def test_a_damaged_confidence_map_is_named(roots, tmp_path):
    path = tmp_path / "auto/confidence/00.png"
    Image.fromarray(np.full((12, 14), 9, np.uint8)).save(path)
    with pytest.raises(UserError, match=r"confidence/00\.png holds more than the 4 levels"):
        mix(roots, second={"confidence_power": 1}).read_weights(4, (12, 14))
    path.unlink()
    with pytest.raises(UserError, match=r"confidence/00\.png"):
        mix(roots, second={"confidence_power": 1}).read_weights(4, (12, 14))


def test_confidence_stored_in_squares_is_spread_over_their_pixels(roots, tmp_path):
    squares = np.arange(35, dtype=np.uint8).reshape(5, 7) % 4  # of 3 x 2 pixels: cut off at the lower border
    Image.fromarray(squares).save(tmp_path / "auto/confidence/00.png")
    describe(tmp_path / "auto", LEVELS, stride=3)
    data = mix(roots, second={"confidence_power": 1})
    _, levels, _ = data.read_weights(4, (14, 19))
    assert levels.shape == (14, 19)
    assert all(levels[y, x] == squares[y // 3, x // 3] for y in range(14) for x in range(19))
    with pytest.raises(UserError, match=r"confidence/00\.png does not have the size of"):
        data.read_weights(4, (12, 14))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"until_epoch": 2}, {}, "first source, 'fine', fills the epochs to the end and cannot have until_epoch"),
        ({"plain": False}, {}, "cannot have plain: false"),
        ({}, {"boost": {"car": -1}}, "sources.auto.boost: the weight of 'car' must be 0 or more"),
        ({}, {"wight": 1}, "unknown key 'sources.auto.wight' .did you mean 'weight'.*; allowed here: ratio, weight"),
        ({}, {"ratio": 0}, "sources.auto.ratio: must be greater than 0"),
        ({}, {"data": "/nowhere"}, "sources.auto.data: no such data set: /nowhere"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(roots, first, second, message):
    with pytest.raises(UserError, match=message):
        mix(roots, first, second)
