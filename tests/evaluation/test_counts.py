"""What is counted for a report, against a direct computation pixel by pixel."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from polyscale.evaluation.counts import LEVELS, NUM_BINS, TEMPERATURES, Counts, Seen
from polyscale.labels import IGNORE
from polyscale.metrics import BORDER_BINS, FIXED_POINT, THICKNESS_BINS

C, SIZE = 4, (34, 40)
ROWS = ("fused", "scale 1", "average")
SCALES = (0.5, 1.0)


def thickness(labels):
    """Side of the largest square of one label around each pixel, at most 16."""
    height, width = labels.shape
    found = np.ones(labels.shape, int)
    for side in range(2, 17):
        for y in range(height - side + 1):
            for x in range(width - side + 1):
                square = np.s_[y : y + side, x : x + side]
                if (labels[square] == labels[y, x]).all():
                    found[square] = side
    return found


def distance(labels):
    """Radius of the smallest square around each pixel that holds another label, or leaves the image; at most 9."""
    height, width = labels.shape
    found = np.full(labels.shape, 9)
    for y, x in np.ndindex(height, width):
        for radius in range(1, 9):
            inside = radius <= min(y, x, height - 1 - y, width - 1 - x)
            square = labels[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
            if not inside or (square != labels[y, x]).any():
                found[y, x] = radius
                break
    return found


def bin_of(value, last):
    return sum(int(value > end) for end in last)


def example(seed):
    """Labels of blobs and a thick block, three predictions of them with confidences, weights and probabilities."""
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(0, C, (9, 10)), np.ones((4, 4), int))[: SIZE[0], : SIZE[1]].astype(np.uint8)
    labels[rng.random(SIZE) < 0.02] = IGNORE
    labels[5:24, 8:27] = seed % C  # large
    labels[:, 3] = 3  # thin
    rows = {}
    for row in ROWS:
        classes = np.roll(labels, 1, axis=1)
        classes = np.where((rng.random(SIZE) < 0.2) | (classes == IGNORE), rng.integers(0, C, SIZE), classes)
        classes = classes.astype(np.uint8)
        kept = SIZE if row == "fused" else tuple(side // 2 for side in SIZE)  # of each 2 x 2 pixels the last
        confidence = None if row == "scale 1" else (rng.integers(0, 513, kept) / 512).astype(np.float32)
        rows[row] = (classes, confidence)
    weight = rng.random(SIZE).astype(np.float32)
    logits = 3 * rng.standard_normal((C, *SIZE))
    probabilities = np.exp(logits) / np.exp(logits).sum(0)
    return labels, rows, {0.5: weight, 1.0: 1 - weight}, probabilities.astype(np.float32)


def add(counts, index, one):
    labels, rows, weights, probabilities = one
    seen = {
        row: Seen(torch.from_numpy(classes), None if sure is None else torch.from_numpy(sure))
        for row, (classes, sure) in rows.items()
    }
    shown = {scale: torch.from_numpy(weight)[None, None] for scale, weight in weights.items()}
    counts.add(index, torch.from_numpy(labels), seen, shown, torch.from_numpy(probabilities))


def direct(images):
    """The same sums from a walk over all pixels."""
    num_thick, num_border, widths = len(THICKNESS_BINS) + 1, len(BORDER_BINS) + 1, BORDER_BINS[:3]
    r, n = len(ROWS), len(images)
    found = {
        "reliability": np.zeros((r, 3, NUM_BINS), int),
        "levels": np.zeros((C, LEVELS, 2), int),
        "thickness_pixels": np.zeros((C, num_thick), int),
        "thickness": np.zeros((r, C, num_thick), int),
        "border_pixels": np.zeros((C, num_border), int),
        "border": np.zeros((r, C, num_border), int),
        "boundary": np.zeros((r, len(widths), 2, C), int),
        "large_confusion": np.zeros((r, C, C), int),
        "weight_by_thickness": np.zeros((len(SCALES), num_thick), int),
        "rescued": np.zeros((n, C), int),
        "spoiled": np.zeros((n, C), int),
        "confident_errors": np.zeros(n, int),
        "image_thickness": np.zeros((n, r, num_thick), int),
        "image_pixels": np.zeros((n, num_thick), int),
    }
    confusion = np.zeros((n, r, C, C), int)
    for i, (labels, rows, weights, _) in enumerate(images):
        thick, far = thickness(labels), distance(labels)
        near = {row: distance(np.where(labels == IGNORE, IGNORE, classes)) for row, (classes, _) in rows.items()}
        for place in zip(*np.nonzero(labels != IGNORE), strict=True):
            truth, t, b = labels[place], bin_of(thick[place], THICKNESS_BINS), bin_of(far[place], BORDER_BINS)
            found["thickness_pixels"][truth, t] += 1
            found["border_pixels"][truth, b] += 1
            found["image_pixels"][i, t] += 1
            for s, scale in enumerate(SCALES):
                found["weight_by_thickness"][s, t] += round(float(weights[scale][place]) * FIXED_POINT)
            right = {row: classes[place] == truth for row, (classes, _) in rows.items()}
            for k, (row, (classes, sure)) in enumerate(rows.items()):
                guess = classes[place]
                confusion[i, k, truth, guess] += 1
                found["thickness"][k, truth, t] += right[row]
                found["border"][k, truth, b] += right[row]
                found["image_thickness"][i, k, t] += right[row]
                found["large_confusion"][k, truth, guess] += t == num_thick - 1
                for w, width in enumerate(widths):
                    true_band, guessed_band = far[place] <= width, near[row][place] <= width
                    both = true_band and guessed_band and right[row]
                    found["boundary"][k, w, 0, truth] += both
                    found["boundary"][k, w, 1, truth] += true_band
                    found["boundary"][k, w, 1, guess] += guessed_band
                    found["boundary"][k, w, 1, truth] -= both
                if sure is not None and (row == "fused" or (place[0] % 2 and place[1] % 2)):
                    value = sure[place] if row == "fused" else sure[place[0] // 2, place[1] // 2]
                    level = min(NUM_BINS - 1, math.floor(value * NUM_BINS))
                    found["reliability"][k, :, level] += (1, right[row], int(value * FIXED_POINT))
            classes, sure = rows["fused"]
            found["levels"][classes[place], min(LEVELS - 1, int(sure[place] * LEVELS)), int(right["fused"])] += 1
            found["confident_errors"][i] += not right["fused"] and sure[place] >= 0.9
            found["rescued"][i, truth] += right["fused"] and not right["average"]
            found["spoiled"][i, truth] += right["average"] and not right["fused"]
    return found, confusion


def test_every_count_is_that_of_a_walk_over_all_pixels():
    images = [example(seed) for seed in (0, 1)]
    counts = Counts(C, ROWS, "average", SCALES)
    for index, one in enumerate(images):
        add(counts, index, one)
    arrays = counts.arrays()
    expected, confusion = direct(images)
    for name, values in expected.items():
        assert values.any(), name
        np.testing.assert_array_equal(arrays[name], values, err_msg=name)
    starts = arrays["confusion_starts"]
    for i, (start, end) in enumerate(pairwise(starts.tolist())):
        dense = np.zeros(confusion[i].size, int)
        dense[arrays["confusion_entries"][start:end]] = arrays["confusion_counts"][start:end]
        np.testing.assert_array_equal(dense.reshape(confusion[i].shape), confusion[i])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_each_temperature_is_that_of_divided_logits(temperature):
    one = example(0)
    counts = Counts(C, ROWS, "average", SCALES)
    add(counts, 1, one)  # an odd image is of the second half
    labels, _, _, probabilities = one
    valid = labels != IGNORE
    logits = np.log(probabilities[:, valid].astype(float)) / temperature
    scaled = np.exp(logits) / np.exp(logits).sum(0)
    truth, best = labels[valid], scaled.argmax(0)
    t = TEMPERATURES.index(temperature)
    assert not counts.sums["log_loss"][0].any()
    loss = -np.log(scaled[truth, np.arange(len(truth))]).sum()
    assert counts.sums["log_loss"][1, t] / 1024 == pytest.approx(loss, rel=1e-4)
    bins = np.minimum(NUM_BINS - 1, (scaled.max(0) * NUM_BINS).astype(int))
    pixels, right, sums = counts.sums["temperature"][1, t]
    assert abs(pixels - np.bincount(bins, minlength=NUM_BINS)).max() <= 1  # one may lie on the edge of two bins
    assert right.sum() == (best == truth).sum()
    assert sums.sum() / FIXED_POINT == pytest.approx(scaled.max(0).sum(), rel=1e-4)


def test_parts_of_several_processes_make_the_whole():
    images = [example(seed) for seed in (0, 1, 2)]
    whole, first, second = (Counts(C, ROWS, "average", SCALES) for _ in range(3))
    for index, one in enumerate(images):
        add(whole, index, one)
        add(second if index == 1 else first, index, one)
    first.merge(second.arrays())
    merged = first.arrays()
    for name, values in whole.arrays().items():
        np.testing.assert_array_equal(merged[name], values, err_msg=name)
