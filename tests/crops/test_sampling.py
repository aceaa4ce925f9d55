import hashlib
import pickle
from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from polyscale.config import validate
from polyscale.crops.centroids import Centroids, tile_centroids
from polyscale.crops.sampling import ClassUniformConfig, Draw, EpochSampler, SourceShare, shard
from polyscale.errors import UserError


def table(*rows, names=("road", "car", "pole", "train")):
    """Rows of (item, class, y, x, pixels)."""
    columns = np.array(rows, dtype=np.int64).reshape(-1, 5).T
    return Centroids(names, *columns)


def skewed():
    """Road everywhere, car in some images, pole in one, no train at all."""
    rows = [(item, 0, 5, item, 900) for item in range(30)]
    rows += [(item, 1, 6, item, 50) for item in range(0, 30, 5)]
    rows += [(7, 2, 7, 7, 3)]
    return table(*rows)


def classes_drawn(sampler, epochs):
    owner = {0: None, 5: "road", 6: "car", 7: "pole"}  # y tells the class in these tables
    return Counter(owner[d.centre[0]] for epoch in range(epochs) for d in sampler.epoch(epoch) if d.centre is not None)


def test_without_a_fraction_every_image_comes_once_an_epoch_anywhere():
    sampler = EpochSampler(30, 0, None, ClassUniformConfig())
    for epoch in range(3):
        draws = sampler.epoch(epoch)
        assert sorted(draw.index for draw in draws) == list(range(30))
        assert all(draw.centre is None for draw in draws)
        assert [draw.position for draw in draws] == list(range(30))


def test_an_epoch_depends_on_seed_and_epoch_alone():
    config = ClassUniformConfig(fraction=0.5)
    one, two = (EpochSampler(30, 3, skewed(), config) for _ in range(2))
    for epoch in range(5):
        one.epoch(epoch)  # what was asked for before does not matter
    assert one.epoch(2) == two.epoch(2)
    assert one.epoch(2) != one.epoch(3)
    assert one.epoch(2) != EpochSampler(30, 4, skewed(), config).epoch(2)


def test_the_order_is_independent_of_the_first_images_augmentation():
    # numpy makes one stream of [seed, epoch] and [seed, epoch, 0].
    sampler = EpochSampler(50, 5, None, ClassUniformConfig())
    order = [draw.index for draw in sampler.epoch(2)]
    rng = np.random.default_rng([5, 2, 0])
    first = rng.permutation(np.arange(50))
    assert order != first[rng.permutation(50)].tolist()


def test_the_fraction_is_exact_and_spread_over_the_epoch():
    sampler = EpochSampler(30, 0, skewed(), ClassUniformConfig(fraction=0.5), epoch_length=400)
    draws = sampler.epoch(0)
    centred = [draw.centre is not None for draw in draws]
    assert len(draws) == 400
    assert sum(centred) == 200
    assert 70 < sum(centred[:200]) < 130
    plain = Counter(draw.index for draw in draws if draw.centre is None)
    assert set(plain.values()) == {6, 7}, "plain draws go through all images before any comes again"


def test_classes_are_drawn_uniformly_however_rare_they_are():
    sampler = EpochSampler(30, 0, skewed(), ClassUniformConfig(fraction=1.0), epoch_length=100)
    counts = classes_drawn(sampler, epochs=1)
    assert sorted(counts) == ["car", "pole", "road"], "the absent class is left out"
    assert set(counts.values()) <= {33, 34}
    counts = classes_drawn(sampler, epochs=30)
    assert chisquare(list(counts.values())).pvalue > 0.5


def test_a_short_epoch_does_not_prefer_the_first_class():
    # Two draws for three classes: only over many epochs can each get its share.
    sampler = EpochSampler(30, 0, skewed(), ClassUniformConfig(fraction=1.0), epoch_length=2)
    counts = classes_drawn(sampler, epochs=600)
    assert chisquare([counts[name] for name in ("road", "car", "pole")]).pvalue > 0.01


def test_boosted_classes_come_in_proportion():
    config = ClassUniformConfig(fraction=1.0, boost={"pole": 3.0, "road": 0.5, "train": 9.0})
    counts = classes_drawn(EpochSampler(30, 0, skewed(), config, epoch_length=90), epochs=10)
    assert counts == {"pole": 600, "car": 200, "road": 100}


def test_boost_zero_and_the_list_of_classes_leave_classes_out():
    left_out = ClassUniformConfig(fraction=1.0, boost={"road": 0.0})
    assert set(classes_drawn(EpochSampler(30, 0, skewed(), left_out), 2)) == {"car", "pole"}
    only = ClassUniformConfig(fraction=1.0, classes=("pole", "train"))
    assert set(classes_drawn(EpochSampler(30, 0, skewed(), only), 2)) == {"pole"}


def test_min_pixels_drops_tiles_with_a_few_pixels():
    config = ClassUniformConfig(fraction=1.0, min_pixels=4)
    assert set(classes_drawn(EpochSampler(30, 0, skewed(), config), 2)) == {"road", "car"}


def test_tiles_of_a_class_are_used_evenly_and_with_their_own_centre():
    sampler = EpochSampler(30, 0, skewed(), ClassUniformConfig(fraction=1.0, classes=("car",)), epoch_length=24)
    draws = sampler.epoch(0)
    assert Counter(draw.index for draw in draws) == dict.fromkeys(range(0, 30, 5), 4)
    assert all(draw.centre == (6, draw.index) for draw in draws)


def test_class_uniform_sampling_ends_at_its_last_epoch():
    sampler = EpochSampler(30, 0, skewed(), ClassUniformConfig(fraction=0.5, last_epoch=2))
    centred = [sum(draw.centre is not None for draw in sampler.epoch(epoch)) for epoch in range(4)]
    assert centred == [15, 15, 0, 0]
    assert sorted(draw.index for draw in sampler.epoch(2)) == list(range(30))


def test_images_smaller_than_the_default_tile_are_drawn():
    config = ClassUniformConfig(fraction=1.0)
    labels = np.zeros((360, 480), np.uint8)
    labels[200, 300] = 1
    rows = [(0, *row) for row in tile_centroids(labels, config.tile).tolist()]
    draws = EpochSampler(1, 0, table(*rows), config, epoch_length=10).epoch(0)
    assert sum(draw.centre == (200, 300) for draw in draws) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"boost": {"tram": 2.0}}, "boost: unknown class 'tram'.*; choose from road, car, pole, train"),
        ({"classes": ("road", "tram")}, "classes: unknown class 'tram'"),
        ({"classes": ("train",)}, "no class to draw"),
        ({"min_pixels": 10_000}, "no class to draw"),
    ],
)
def test_what_cannot_be_drawn_is_an_error(options, message):
    with pytest.raises(UserError, match=message):
        EpochSampler(30, 0, skewed(), ClassUniformConfig(fraction=0.5, **options))


@pytest.mark.parametrize(
    "values", [{"fraction": 1.1}, {"tile": 0}, {"boost": {"car": -1}}, {"boost": {"car": float("nan")}}, {"tiles": 5}]
)
def test_bad_options_are_refused(values):
    with pytest.raises(UserError):
        validate(ClassUniformConfig, values)


def test_no_images_is_an_error():
    with pytest.raises(UserError, match="no images"):
        EpochSampler(0, 0, None, ClassUniformConfig())


@pytest.mark.parametrize("length", [24, 29, 47])
@pytest.mark.parametrize(("batch_size", "world_size"), [(4, 1), (2, 2), (1, 4), (3, 2), (2, 3), (8, 3)])
def test_ranks_together_hold_each_step_of_one_process(length, batch_size, world_size):
    draws = EpochSampler(30, 1, skewed(), ClassUniformConfig(fraction=0.5), epoch_length=length).epoch(0)
    whole = shard(draws, batch_size * world_size, 0, 1)
    ranks = [shard(draws, batch_size, rank, world_size) for rank in range(world_size)]
    assert len(whole) == length // (batch_size * world_size)
    assert [draw for step in whole for draw in step] == draws[: len(whole) * batch_size * world_size]
    for rank, batches in enumerate(ranks):
        assert len(batches) == len(whole)
        assert all(len(batch) == batch_size for batch in batches)
        assert all(draw.position % world_size == rank % world_size for batch in batches for draw in batch)
    for step, batch in enumerate(whole):
        woven = [draw for parts in zip(*(rank[step] for rank in ranks), strict=True) for draw in parts]
        assert woven == batch


def test_an_epoch_shorter_than_a_step_is_an_error():
    draws = EpochSampler(5, 0, None, ClassUniformConfig()).epoch(0)
    with pytest.raises(UserError, match="epoch of 5 images is shorter than one step of 8"):
        shard(draws, 4, 0, 2)


def test_a_draw_goes_to_worker_processes():
    draw = Draw(3, (4, 5), 6)
    assert pickle.loads(pickle.dumps(draw)) == draw


def mixed(config, *sources, epoch_length=120, seed=0):
    """Ten fine images and twenty automatic ones: the table of ``skewed``."""
    return EpochSampler(30, seed, skewed(), config, epoch_length, sources)


def origins(draws):
    return Counter("fine" if draw.index < 10 else "auto" for draw in draws)


PLAIN, CLASSES = ClassUniformConfig(), ClassUniformConfig(fraction=1.0)
FINE = SourceShare("fine", 10)


def test_one_source_draws_what_no_sources_draw():
    for config in (PLAIN, ClassUniformConfig(fraction=0.5)):
        alone = EpochSampler(30, 4, skewed(), config, 77)
        source = EpochSampler(30, 4, skewed(), config, 77, [SourceShare("all", 30)])
        assert [source.epoch(epoch) for epoch in range(3)] == [alone.epoch(epoch) for epoch in range(3)]


def test_draws_are_those_of_the_first_release():
    # A run that was started before must resume to the same numbers.
    draws = EpochSampler(30, 4, skewed(), ClassUniformConfig(fraction=0.5, boost={"car": 2.0}), 40).epoch(3)
    text = " ".join(f"{draw.index}:{draw.centre}" for draw in draws)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "d0aba2d7ad6a5fea"


def test_sources_of_equal_ratio_are_drawn_equally_often_and_anew_each_epoch():
    sampler = mixed(PLAIN, FINE, SourceShare("auto", 20), epoch_length=20)
    seen = set()
    for epoch in range(5):
        draws = sampler.epoch(epoch)
        assert origins(draws) == {"fine": 10, "auto": 10}
        assert sorted(draw.index for draw in draws if draw.index < 10) == list(range(10)), "each fine image once"
        seen.add(frozenset(draw.index for draw in draws if draw.index >= 10))
        assert len({draw.index for draw in draws}) == 20
    assert len(seen) == 5


def test_sources_are_drawn_by_their_ratio():
    sampler = mixed(PLAIN, FINE, SourceShare("auto", 20, ratio=3.0), epoch_length=82)
    counts = [origins(sampler.epoch(epoch))["auto"] for epoch in range(40)]
    assert set(counts) == {61, 62}, "to within one draw, and not the same one each time"


def test_after_its_last_epoch_a_source_is_not_drawn_and_the_others_fill_the_epoch():
    half = ClassUniformConfig(fraction=0.5)
    sampler = mixed(half, FINE, SourceShare("auto", 20, until_epoch=2))
    assert [origins(sampler.epoch(epoch))["auto"] > 0 for epoch in range(4)] == [True, True, False, False]
    assert all(len(sampler.epoch(epoch)) == 120 for epoch in range(4))


def test_sources_divide_each_class_where_both_have_it():
    draws = mixed(CLASSES, FINE, SourceShare("auto", 20)).epoch(0)
    by_class = {y: origins(d for d in draws if d.centre is not None and d.centre[0] == y) for y in (5, 6, 7)}
    assert by_class == {5: {"fine": 20, "auto": 20}, 6: {"fine": 20, "auto": 20}, 7: {"fine": 40}}


def test_a_boost_changes_where_a_class_is_drawn_from_and_not_how_often():
    draws = mixed(CLASSES, FINE, SourceShare("auto", 20, boost={"car": 3.0, "road": 0.0})).epoch(0)
    by_class = {y: origins(d for d in draws if d.centre is not None and d.centre[0] == y) for y in (5, 6)}
    assert by_class == {5: {"fine": 40}, 6: {"fine": 10, "auto": 30}}


def test_a_source_may_be_drawn_for_some_classes_only():
    config = ClassUniformConfig(fraction=0.5)
    draws = mixed(config, FINE, SourceShare("auto", 20, plain=False, classes=("car",))).epoch(0)
    assert origins(draw for draw in draws if draw.centre is None) == {"fine": 60}
    assert origins(draw for draw in draws if draw.centre is not None) == {"fine": 50, "auto": 10}


def test_a_class_that_only_an_ended_source_has_is_left_out_afterwards():
    rows = [(item, 0, 5, item, 9) for item in range(3)] + [(3, 1, 6, 3, 9)]
    sources = [SourceShare("fine", 3), SourceShare("auto", 1, until_epoch=1)]
    sampler = EpochSampler(4, 0, table(*rows), CLASSES, 10, sources)
    assert [{d.centre[0] for d in sampler.epoch(epoch)} for epoch in (0, 1)] == [{5, 6}, {5}]


@pytest.mark.parametrize("wrong", [{"boost": {"buss": 1.0}}, {"classes": ("buss",)}])
def test_a_sources_class_that_does_not_exist_is_named(wrong):
    with pytest.raises(UserError, match=r"source 'auto': (boost|classes): unknown class 'buss'"):
        mixed(CLASSES, FINE, SourceShare("auto", 20, **wrong))
