from pathlib import Path

import numpy as np
import pytest
from torch import nn

from polyscale.baselines import SingleScale
from polyscale.data.items import Item, Sample
from polyscale.errors import UserError
from polyscale.evaluation.suspects import LEVELS, find_suspects, look_for_suspects
from polyscale.labels import IGNORE, LabelSpace
from polyscale.looker import Looker
from polyscale.multiscale import View

SPACE = LabelSpace.model_validate(
    {"name": "toys", "classes": [{"name": name, "color": (0, 0, 0)} for name in ("road", "car", "tree")]}
)
CAR = (slice(4, 12), slice(6, 18))


class Colours(nn.Module):
    """Red is road, green car, blue tree; the more of it the surer."""

    def forward(self, images):
        return View(8 * images, None, None, images)


class Scenes:
    """Road with a car and a tree; in some images the label of the car is tree."""

    label_space = SPACE

    def __init__(self, wrong, masks=True):
        self.wrong, self.masks = wrong, masks
        self.items = [Item(f"day/{k}", Path(f"{k}.png"), Path("m.png") if masks else None) for k in range(len(wrong))]

    def __len__(self):
        return len(self.wrong)

    def read(self, index):
        truth = np.zeros((24, 32), np.uint8)
        truth[CAR] = 1
        truth[14:20, 20:30] = 2
        image = (np.eye(3)[truth] * 230).astype(np.uint8)
        labels = truth.copy()
        labels[:, 0] = IGNORE
        labels[13, 20:30] = 2  # the tree's border lies one row too high in every label
        if self.wrong[index]:
            labels[CAR] = 2
        return Sample(f"day/{index}", image, labels if self.masks else None)


def suspects(wrong, **options):
    return find_suspects(Looker(SingleScale(Colours()), "cpu"), Scenes(wrong), SPACE, **options)


def test_a_wrong_object_stands_before_a_border_that_is_a_pixel_off():
    found = suspects([False, True, False, False], smallest=4)
    first, *others = found.regions
    assert (first.name, first.item, first.label, first.predicted, first.pixels) == ("day/1", 1, 2, 1, 96)
    assert first.box == (4, 6, 12, 18)
    assert first.whole == 1
    assert [(one.label, one.predicted, one.pixels) for one in others] == [(2, 0, 10)] * 4
    assert first.score > 5 * others[0].score
    assert found.images[0].name == "day/1"
    assert found.images[0].regions == 2
    assert found.num_objects == 4 * 3
    assert found.confusions()[0] == (2, 1, 96)


def test_labels_that_are_right_leave_nothing():
    found = suspects([False, False], smallest=11)
    assert found.regions == ()
    assert found.images == ()


def test_a_class_that_the_network_is_mostly_wrong_of_is_not_believed():
    often, seldom = suspects([True] * 6), suspects([False] * 5 + [True])
    assert often.regions[0].score < 0.4 * seldom.regions[0].score


def test_counts_are_whole_numbers_of_all_labelled_pixels():
    found = suspects([False, True])
    assert found.counts.dtype == np.int64
    assert found.counts.shape == (3, 3, LEVELS)
    assert found.counts.sum() == 2 * 24 * 31
    assert found.counts[2, 1].sum() == 96


def test_ignored_pixels_are_in_no_region_and_part_two():
    labels = np.array([[0, 0, IGNORE, 0, 0]], np.uint8)
    predicted = np.ones((1, 5), np.uint8)
    sure, none = np.full((1, 5), 255, np.uint8), np.zeros((1, 5), np.uint8)
    counts, regions, objects = look_for_suspects(labels, predicted, sure, none, 2, 1)
    assert counts.sum() == 4
    assert regions[:, :4].tolist() == [[0, 0, 1, 2], [0, 3, 1, 5]]
    assert regions[:, 4:].tolist() == [[0, 1, 2, 510, 0, 2, 2]] * 2
    assert objects == 2


def test_an_image_without_mask_is_told():
    with pytest.raises(UserError, match="has no mask"):
        find_suspects(Looker(SingleScale(Colours()), "cpu"), Scenes([True], masks=False), SPACE)
