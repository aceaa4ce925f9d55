import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import kstest

from polyscale.config import validate
from polyscale.crops import transforms
from polyscale.crops.transforms import AugmentConfig, augment, augment_planes
from polyscale.errors import UserError
from polyscale.labels import IGNORE

STEP = 8  # levels of grey per pixel in images that encode where they are: rounding to bytes is then 1/16 of a pixel


def plain(**options):
    """Geometry only."""
    return AugmentConfig(**{"flip": 0.0, "color_jitter": 0.0, "hue": 0.0, **options})


def coordinates(height=29, width=31):
    """An image whose red is its column and green its row, and labels of column and of row."""
    ys, xs = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([STEP * xs, STEP * ys, np.full_like(xs, 77)], axis=2), ys, xs


def augment_coordinates(config, seed, centre=None, size=(29, 31)):
    """The same crop twice: once with the rows and once with the columns as labels."""
    image, ys, xs = coordinates(*size)
    crop, rows = augment(image, ys, config, np.random.default_rng(seed), centre)
    again, columns = augment(image, xs, config, np.random.default_rng(seed), centre)
    assert torch.equal(crop, again)
    return crop.double() * 255 / STEP, rows, columns


def random_pair(height=40, width=50, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8), rng.integers(0, 5, (height, width), dtype=np.uint8)


@pytest.mark.parametrize("scale", [0.5, 0.73, 1.0, 1.37, 2.0])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_labels_lie_under_the_image_to_half_a_pixel_at_any_scale(scale, flip):
    config = plain(crop=(20, 22), scale=(scale, scale), flip=flip)
    checked = 0
    for seed in range(10):
        content, rows, columns = augment_coordinates(config, seed)
        # At the source's own border the antialiasing filter is cut off, which bends the ramp.
        inner = (rows >= 2) & (rows <= 26) & (columns >= 2) & (columns <= 28)
        assert (content[0] - columns)[inner].abs().max() <= 0.5 + 1 / STEP
        assert (content[1] - rows)[inner].abs().max() <= 0.5 + 1 / STEP
        checked += int(inner.sum())
        rising = columns[(columns != IGNORE).any(dim=1)][0]
        rising = rising[rising != IGNORE].diff()
        assert (rising <= 0).all() if flip else (rising >= 0).all()
    assert checked > 1000


@pytest.mark.parametrize("scale", [0.5, 0.62, 1.0, 1.3, 2.0])
def test_equals_resizing_everything_and_then_cropping(scale):
    image, labels = random_pair()
    config = plain(crop=(18, 22), scale=(scale, scale))
    size = (round(50 * scale), round(40 * scale))
    whole = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)).astype(int)
    # Exact arithmetic: Pillow's own nearest filter adds up floats, and errs where a centre falls on a pixel's edge.
    ys = [math.floor((y + Fraction(1, 2)) * 40 / size[1]) for y in range(size[1])]
    xs = [math.floor((x + Fraction(1, 2)) * 50 / size[0]) for x in range(size[0])]
    whole_labels = labels[np.ix_(ys, xs)]
    for seed in range(4):
        crop, target = augment(image, labels, config, np.random.default_rng(seed))
        pixels = (crop * 255).round().permute(1, 2, 0).numpy().astype(int)
        matches = [
            (y, x)
            for y in range(size[1] - 18 + 1)
            for x in range(size[0] - 22 + 1)
            if np.abs(whole[y : y + 18, x : x + 22] - pixels).max() <= 1
        ]
        assert len(matches) == 1
        y, x = matches[0]
        assert np.array_equal(whole_labels[y : y + 18, x : x + 22], target.numpy())


def test_scale_one_copies_the_bytes():
    image, labels = random_pair()
    crop, target = augment(image, labels, plain(crop=(40, 50), scale=(1.0, 1.0)), np.random.default_rng(0))
    assert crop.dtype == torch.float32
    assert target.dtype == torch.int64
    assert torch.equal(crop, torch.from_numpy(image).permute(2, 0, 1) / 255)
    assert np.array_equal(target.numpy(), labels)


def test_flip_mirrors_image_and_labels_alike():
    image, labels = random_pair()
    options = {"crop": (18, 22), "blur": 1.0}
    straight = augment(image, labels, AugmentConfig(flip=0.0, **options), np.random.default_rng(5))
    mirrored = augment(image, labels, AugmentConfig(flip=1.0, **options), np.random.default_rng(5))
    assert torch.equal(straight[0].flip(-1), mirrored[0])
    assert torch.equal(straight[1].flip(-1), mirrored[1])
    assert mirrored[1].is_contiguous()


def test_flip_comes_as_often_as_asked():
    image, _, columns = coordinates()
    config = plain(crop=(8, 8), scale=(1.0, 1.0), flip=0.3)
    flips = 0
    for seed in range(400):
        _, target = augment(image, columns, config, np.random.default_rng(seed))
        flips += int(target[0, 0] > target[0, -1])
    assert 90 < flips < 150  # 120, standard deviation 9


@pytest.mark.parametrize("centre", [(0, 0), (28, 30), (13, 17), (0, 30), (27, 1)])
@pytest.mark.parametrize("scale", [(0.5, 0.5), (0.6, 2.0), (2.0, 2.0)])
def test_the_crop_holds_its_centre(centre, scale):
    config = plain(crop=(11, 13), scale=scale)
    for seed in range(30):
        content, rows, columns = augment_coordinates(config, seed, centre)
        assert rows.min() - 1 <= centre[0] <= rows.max() + 1
        assert columns.min() - 1 <= centre[1] <= columns.max() + 1
        if scale[0] >= 1:  # every source pixel has a pixel of the crop of its own
            assert ((rows == centre[0]) & (columns == centre[1])).any()
        assert content.shape == (3, 11, 13)


def test_the_centre_is_at_a_random_place_of_the_crop():
    image, labels = np.zeros((60, 60, 3), np.uint8), np.zeros((60, 60), np.uint8)
    labels[30, 30] = 1
    config = plain(crop=(8, 8), scale=(1.0, 1.0))
    places = set()
    for seed in range(600):
        _, target = augment(image, labels, config, np.random.default_rng(seed), (30, 30))
        (place,) = target.nonzero().tolist()
        places.add(tuple(place))
    assert len(places) == 64


def test_crops_without_a_centre_reach_every_corner():
    corners = set()
    for seed in range(300):
        _, rows, columns = augment_coordinates(plain(crop=(26, 28), scale=(1.0, 1.0)), seed)
        corners |= {(int(rows[0, 0]) == 0, int(rows[-1, 0]) == 28, int(columns[0, 0]) == 0, int(columns[0, -1]) == 30)}
    assert {(True, False, True, False), (False, True, False, True), (True, False, False, True)} <= corners


def test_an_image_smaller_than_the_crop_is_padded_with_its_mean_and_ignored_labels():
    image, labels = random_pair(20, 60)
    crop, target = augment(image, labels, plain(crop=(32, 40), scale=(1.0, 1.0)), np.random.default_rng(1))
    padded = (target == IGNORE).all(dim=1)
    assert padded.sum() == 12
    assert not (target[~padded] == IGNORE).any()
    inside = crop[:, ~padded]
    outside = crop[:, padded]
    assert (outside == outside[:, :1, :1]).all()
    np.testing.assert_allclose(outside[:, 0, 0].numpy(), inside.mean((1, 2)).numpy(), atol=0.51 / 255)
    starts = {
        int((augment(image, labels, plain(crop=(32, 40)), np.random.default_rng(s))[1][:, 20] != IGNORE).int().argmax())
        for s in range(60)
    }
    assert len(starts) > 4, "the image lies at random places in the padding"


def test_padding_takes_the_colour_asked_for():
    image, labels = random_pair(6, 6)
    config = plain(crop=(12, 12), scale=(1.0, 1.0), fill=(255, 0, 51))
    crop, target = augment(image, labels, config, np.random.default_rng(0))
    torch.testing.assert_close(crop[:, target == IGNORE][:, 0], torch.tensor([1.0, 0.0, 0.2]))


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (70, 1), (3, 2)])
def test_tiny_images_and_one_pixel_crops(size):
    image, labels = random_pair(*size)
    for crop in ((1, 1), (5, 4)):
        for seed in range(8):
            centre = (size[0] - 1, size[1] - 1)
            config = AugmentConfig(crop=crop, blur=0.5, rand_augment=2)
            tensor, target = augment(image, labels, config, np.random.default_rng(seed), centre)
            assert tensor.shape == (3, *crop)
            assert target.shape == crop
            assert torch.isfinite(tensor).all()


def test_equal_generators_give_equal_bits_and_global_state_counts_for_nothing():
    image, labels = random_pair()
    config = AugmentConfig(crop=(30, 30), blur=0.5, rand_augment=3)
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the global state is what must not matter
        before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        results.append(augment(image, labels, config, np.random.default_rng([7, 3, 12])))
        assert torch.equal(torch.random.get_rng_state(), before[0])
        assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    other = augment(image, labels, config, np.random.default_rng([7, 3, 13]))
    assert not torch.equal(results[0][0], other[0])


def test_photometric_options_leave_the_crop_where_it_was(monkeypatch):
    image, labels = random_pair()
    _, target = augment(image, labels, plain(crop=(20, 20)), np.random.default_rng(4))
    monkeypatch.setattr(transforms, "GEOMETRIC", ())
    for options in ({"color_jitter": 0.5, "hue": 0.1}, {"blur": 1.0}, {"rand_augment": 3}):
        _, other = augment(image, labels, plain(crop=(20, 20), **options), np.random.default_rng(4))
        assert torch.equal(target, other)


def test_inputs_stay_as_they_were_and_views_are_taken():
    image, labels = random_pair()
    copies = image.copy(), labels.copy()
    config = AugmentConfig(crop=(60, 30), blur=1.0, rand_augment=3)
    first = augment(image[::-1, ::-1], labels[::-1, ::-1], config, np.random.default_rng(0))
    assert np.array_equal(image, copies[0])
    assert np.array_equal(labels, copies[1])
    dense = np.ascontiguousarray(image[::-1, ::-1]), np.ascontiguousarray(labels[::-1, ::-1])
    second = augment(*dense, config, np.random.default_rng(0))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_read_only_inputs_are_fine():
    image, labels = random_pair()
    image.flags.writeable = labels.flags.writeable = False
    tensor, target = augment(image, labels, plain(crop=(40, 50), scale=(1.0, 1.0)), np.random.default_rng(0))
    tensor += 1  # what comes back is the caller's own
    target += 1


def test_color_jitter_stays_within_its_limits():
    image = np.full((8, 8, 3), 100, np.uint8)
    labels = np.zeros((8, 8), np.uint8)
    config = AugmentConfig(crop=(8, 8), scale=(1.0, 1.0), color_jitter=0.25)
    values = np.array(
        [augment(image, labels, config, np.random.default_rng(seed))[0].mean().item() for seed in range(200)]
    )
    factors = values / (100 / 255)  # of a plain grey picture only the brightness can change
    assert 0.75 <= factors.min() < 0.78
    assert 1.22 < factors.max() <= 1.25


@pytest.mark.parametrize("magnitude", [0.4, 1.0])
def test_geometric_operations_move_labels_with_the_image(monkeypatch, magnitude):
    monkeypatch.setattr(transforms, "PHOTOMETRIC", {})
    config = plain(crop=(29, 31), scale=(1.0, 1.0), rand_augment=3, rand_augment_magnitude=magnitude, flip=0.5)
    moved = ignored = 0
    for seed in range(20):
        content, rows, columns = augment_coordinates(config, seed)
        assert ((rows == IGNORE) == (columns == IGNORE)).all()
        inner = (rows >= 1) & (rows <= 27) & (columns >= 1) & (columns <= 29)
        assert inner.any()
        assert (content[0] - columns)[inner].abs().max() <= 0.5 + 1 / STEP
        assert (content[1] - rows)[inner].abs().max() <= 0.5 + 1 / STEP
        moved += int((rows[:, 0] != torch.arange(29)).any())
        ignored += int((rows == IGNORE).sum())
        # What was moved in from outside is ignored and has the fill's colour, the mean: it is no content.
        assert (content[2][rows == IGNORE] - 77 / STEP).abs().max() < 0.2 if (rows == IGNORE).any() else True
    assert moved == 20
    assert ignored > 0


def test_rand_augment_changes_the_picture_but_not_at_magnitude_zero():
    image, labels = random_pair()
    base = plain(crop=(30, 30))
    before = augment(image, labels, base, np.random.default_rng(1))
    for magnitude, same in ((0.0, True), (0.8, False)):
        config = plain(crop=(30, 30), rand_augment=4, rand_augment_magnitude=magnitude)
        after = augment(image, labels, config, np.random.default_rng(1))
        assert torch.equal(before[0], after[0]) is same
        assert after[0].shape == (3, 30, 30)


@pytest.mark.parametrize(("distribution", "transform"), [("uniform", float), ("log-uniform", np.log)])
def test_scale_distribution(distribution, transform):
    config = AugmentConfig(scale=(0.5, 2.0), scale_distribution=distribution)
    rng = np.random.default_rng(0)
    drawn = [transform(transforms._draw_scale(config, rng)) for _ in range(500)]
    low, high = transform(0.5), transform(2.0)
    assert kstest(drawn, "uniform", args=(low, high - low)).pvalue > 0.01


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"crop": [0, 5]}, "crop"),
        ({"scale": [2.0, 0.5]}, "smallest, largest"),
        ({"scale": [0.0, 0.5]}, "above 0"),
        ({"flip": 1.5}, "flip"),
        ({"scale_distribution": "normal"}, "log-uniform"),
        ({"fill": [0, 0, 256]}, "0 to 255"),
        ({"colour_jitter": 0.1}, "unknown key 'colour_jitter'"),
    ],
)
def test_bad_options_are_refused_in_one_line(values, message):
    with pytest.raises(UserError, match=message) as caught:
        validate(AugmentConfig, values)
    assert "\n" not in str(caught.value)


def test_planes_take_the_same_source_pixels_whatever_is_done_to_them():
    image, labels = random_pair(30, 36)
    config = AugmentConfig(crop=(40, 30), rand_augment=3, blur=0.5)
    padded = 0
    for seed in range(20):
        tensor, target = augment(image, labels, config, np.random.default_rng(seed), (3, 4))
        planes = [(labels, IGNORE), (labels, 7), (labels + np.uint8(100), 0)]
        again, (first, second, third) = augment_planes(image, planes, config, np.random.default_rng(seed), (3, 4))
        assert torch.equal(tensor, again)
        assert np.array_equal(first, target.numpy())
        outside = first == IGNORE
        assert np.array_equal(second, np.where(outside, 7, first))
        assert np.array_equal(third, np.where(outside, 0, first + np.uint8(100)))
        padded += bool(outside.any())
    assert padded > 5
