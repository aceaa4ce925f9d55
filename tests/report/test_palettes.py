"""Colours against the numbers that colour science gives for them, computed here once more, pair by pair."""

import itertools
import math

import pytest

from polyscale.data.known_spaces import known_space
from polyscale.report.palettes import distinct_colors

# Machado, Oliveira, Fernandes 2009, severity 1.0.
SIGHTS = {
    "common": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039)),
}
STREETS = (
    *((128, 64, 128), (244, 35, 232), (90, 90, 90), (70, 150, 220), (240, 240, 160), (250, 140, 0)),
    *((70, 140, 35), (0, 0, 150), (220, 20, 60)),
)


def lab(color, sight):
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in color)]
    seen = [min(1, max(0, sum(a * b for a, b in zip(row, linear, strict=True)))) for row in SIGHTS[sight]]
    to_xyz = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.072175), (0.0193339, 0.119192, 0.9503041))
    xyz = [sum(a * b for a, b in zip(row, seen, strict=True)) for row in to_xyz]
    x, y, z = (value / white for value, white in zip(xyz, (0.95047, 1, 1.08883), strict=True))
    f = [v ** (1 / 3) if v > 216 / 24389 else (24389 / 27 * v + 16) / 116 for v in (x, y, z)]
    return 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])


def least_difference(colors, sight):
    seen = [lab(color, sight) for color in colors]
    return min(math.dist(a, b) for a, b in itertools.combinations(seen, 2))


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("number", [2, 9, 11, 19, 20])
def test_any_two_classes_differ_by_20_to_every_eye(sight, number):
    own = {9: STREETS, 19: tuple(item.color for item in known_space("cityscapes").classes)}.get(number)
    own = own or tuple((12 * k, 255 - 9 * k, 100) for k in range(number))
    colors = distinct_colors(own)
    assert len(set(colors)) == number
    assert least_difference(colors, sight) >= 20


def test_the_data_sets_own_colours_would_not_do():
    assert least_difference(STREETS, "deuteranopia") < 20


def test_more_classes_than_there_are_colours_keep_their_own():
    own = tuple((k, 2 * k, 3 * k) for k in range(66))
    assert distinct_colors(own) == own


def test_colours_stay_near_the_data_sets_own():
    chosen = distinct_colors(STREETS)
    for k, color in enumerate(chosen):
        near = [math.dist(lab(color, "common"), lab(other, "common")) for other in STREETS]
        assert sorted(near).index(near[k]) <= 2
