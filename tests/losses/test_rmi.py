import hashlib
import json

import numpy as np
import pytest
import torch

from polyscale.losses import bce, region_mutual_information, rmi_loss


def written_out(logits, labels, radius=3, pool=4, ignore=255):
    """The formula of arXiv:1910.12037 in float64, one neighbourhood at a time."""
    num_images, num_classes, height, width = logits.shape
    pad, dim = pool // 2, radius * radius
    rows, columns = (height + 2 * pad - pool) // pool + 1, (width + 2 * pad - pool) // pool + 1
    total = 0.0
    for n in range(num_images):
        for c in range(num_classes):
            p, y = (np.zeros((height + 2 * pad, width + 2 * pad)) for _ in range(2))
            for i in range(height):
                for j in range(width):
                    counts = labels[n, i, j] != ignore
                    probability = 1 / (1 + np.exp(-logits[n, c, i, j])) if counts else 0.0
                    p[i + pad, j + pad] = probability + 1e-6
                    y[i + pad, j + pad] = float(counts and labels[n, i, j] == c)
            small = []
            for x in (p, y):
                windows = [
                    [x[pool * i : pool * (i + 1), pool * j : pool * (j + 1)].mean() for j in range(columns)]
                    for i in range(rows)
                ]
                small.append(np.array(windows))
            samples = [
                np.concatenate([x[i : i + radius, j : j + radius].ravel() for x in small])
                for i in range(rows - radius + 1)
                for j in range(columns - radius + 1)
            ]
            samples = np.array(samples) - np.mean(samples, axis=0)
            covariance = sum(np.outer(sample, sample) for sample in samples)
            s_p, s_yp, s_y = covariance[:dim, :dim], covariance[dim:, :dim], covariance[dim:, dim:]
            diagonal = 5e-4 * np.eye(dim)
            remainder = s_y - s_yp @ np.linalg.inv(s_p + diagonal) @ s_yp.T
            factor = np.linalg.cholesky(remainder + diagonal)
            total += np.log(np.diag(factor) + 1e-8).sum() / dim
    return total / num_images


def case(shape, seed=0, correlated=False):
    generator = torch.Generator().manual_seed(seed)
    num_images, num_classes, height, width = shape
    logits = torch.randn(shape, generator=generator, dtype=torch.float64) * 2
    blocks = torch.randint(0, num_classes, (num_images, height // 8 + 1, width // 8 + 1), generator=generator)
    labels = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, :height, :width].clone()
    if correlated:
        logits.scatter_add_(1, labels[:, None], torch.full_like(logits[:, :1], 6))
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = 255
    return logits, labels


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((2, 3, 33, 47), {}),
        ((1, 2, 20, 22), {}),
        ((1, 2, 21, 23), {}),
        ((1, 2, 9, 8), {}),
        ((1, 3, 21, 17), {"radius": 2, "pool": 3}),
        ((1, 2, 9, 11), {"pool": 1}),
        ((1, 2, 12, 13), {"radius": 1, "pool": 2}),
    ],
    ids=str,
)
@pytest.mark.parametrize("correlated", [False, True])
def test_equals_the_formula_written_out(shape, options, correlated):
    logits, labels = case(shape, correlated=correlated)
    value = region_mutual_information(logits, labels, **options)
    assert value.item() == pytest.approx(written_out(logits.numpy(), labels.numpy(), **options), rel=1e-10)


def test_is_a_weighted_sum_of_its_halves():
    logits, labels = case((2, 3, 24, 24))
    pixels, regions = bce(logits, labels), region_mutual_information(logits, labels)
    for share in (0.0, 0.3, 1.0):
        expected = share * pixels + (1 - share) * regions
        torch.testing.assert_close(rmi_loss(logits, labels, weight_lambda=share), expected, rtol=1e-12, atol=1e-12)


def test_gradient_by_finite_differences():
    logits, labels = case((1, 2, 12, 11), correlated=True)
    torch.autograd.gradcheck(lambda z: rmi_loss(z, labels), logits.requires_grad_(), atol=1e-7, rtol=1e-5)


def test_rewards_probabilities_that_follow_the_labels():
    logits, labels = case((1, 3, 48, 48))
    better, _ = case((1, 3, 48, 48), correlated=True)
    assert region_mutual_information(better, labels) < region_mutual_information(logits, labels) - 1


def normals(name, shape):
    """The stored cases' inputs are regenerated from their names, as the golden folder's README says."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("name", ["rmi_2x19x33x47", "rmi_2x19x64x64"])
@pytest.mark.parametrize(("loss", "part"), [(rmi_loss, "rmi"), (bce, "bce")], ids=["rmi", "bce"])
def test_equals_the_authors_implementation(golden, name, loss, part):
    manifest = json.loads((golden / "manifests" / f"{name}.json").read_text())
    stored = np.load(golden / f"{name}.npz")
    inputs = normals(f"input:{name}", manifest["input"]["shape"])
    assert hashlib.sha256(inputs.tobytes()).hexdigest() == manifest["input"]["sha256"]
    logits = torch.from_numpy(inputs).requires_grad_()
    value = loss(logits, torch.from_numpy(stored["labels"]).long())
    value.backward()
    assert value.item() == pytest.approx(stored[f"loss_{part}"].item(), rel=1e-6)
    expected = stored[f"grad_{part}"]
    assert np.linalg.norm(logits.grad.numpy() - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("size", [(32, 40), (6, 40), (3, 3)], ids=str)
def test_wholly_ignored_is_the_constant_of_the_diagonal(size):
    logits = torch.randn(2, 19, *size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    value = rmi_loss(logits, torch.full((2, *size), 255))
    value.backward()
    assert value.item() == pytest.approx(0.5 * 19 * np.log(np.sqrt(5e-4) + 1e-8), rel=1e-6)
    assert not logits.grad.any()


@pytest.mark.parametrize("size", [(1, 1), (3, 11), (7, 7)], ids=str)
def test_a_crop_below_one_neighbourhood_still_trains_its_pixels(size):
    logits = torch.zeros(1, 2, *size, requires_grad=True)
    labels = torch.zeros(1, *size, dtype=torch.long)
    rmi_loss(logits, labels).backward()
    assert (logits.grad[:, 0] < 0).all()
    assert (logits.grad[:, 1] > 0).all()


def test_large_constant_crops_are_finite():
    values = []
    for side in (64, 512):
        logits = torch.full((1, 2, side, side), 30.0, requires_grad=True)
        value = region_mutual_information(logits, torch.ones(1, side, side, dtype=torch.long))
        value.backward()
        assert logits.grad.isfinite().all()
        values.append(value.item())
    assert np.isfinite(values).all()


def test_infinite_logits_show_in_the_loss_and_raise_nothing():
    logits, labels = case((2, 2, 16, 16))
    logits[0, 0, 3, 3] = torch.nan
    logits.requires_grad_()
    value = rmi_loss(logits, labels)
    value.backward()
    assert value.isnan()


def degenerate_logits(shape, generator, dtype):
    """Each image constant, saturated, extreme, a ramp, ordinary, or ordinary with one pixel that is extreme."""
    num_images = shape[0]
    ordinary = torch.randn(shape, generator=generator, dtype=dtype)
    each = torch.randn(num_images, 1, 1, 1, generator=generator, dtype=dtype).expand(shape)
    one_pixel = ordinary.clone()
    largest = torch.finfo(dtype).max ** 0.5  # their sum is finite too
    one_pixel[:, 0, 0, 0] = largest
    ramp = torch.linspace(-90, 90, shape[3], dtype=dtype).expand(shape)
    kinds = [each * 10, each.sign() * 1e4, ordinary.sign() * largest, ramp, ordinary, one_pixel, torch.zeros(shape)]
    chosen = torch.randint(0, len(kinds), (num_images,), generator=generator)
    return torch.stack([kinds[kind][n].to(dtype) for n, kind in enumerate(chosen.tolist())])


def degenerate_labels(shape, generator):
    """Each image wholly ignored, of one class, of one pixel, of one row, of two classes in halves, or ordinary."""
    num_images, num_classes, height, width = shape
    ordinary = torch.randint(0, num_classes, (num_images, height, width), generator=generator)
    ignored = torch.full_like(ordinary, 255)
    one_class = ordinary[:, :1, :1].expand(ordinary.shape)
    one_pixel, one_row, halves = ignored.clone(), ignored.clone(), one_class.clone()
    one_pixel[:, height // 2, width // 2] = 1
    one_row[:, -1] = ordinary[:, -1]
    halves[:, : height // 2] = 0
    sparse = torch.where(torch.rand(ordinary.shape, generator=generator) < 0.05, ordinary, 255)
    kinds = [ignored, one_class, one_pixel, one_row, halves, sparse, ordinary]
    chosen = torch.randint(0, len(kinds), (num_images,), generator=generator)
    return torch.stack([kinds[kind][n] for n, kind in enumerate(chosen.tolist())])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_ten_thousand_degenerate_crops_are_finite(dtype):
    generator = torch.Generator().manual_seed(0)
    for number in range(200):
        height, width = torch.randint(1, 41, (2,), generator=generator).tolist()
        shape = (50, 2 + number % 3, height, width)
        logits = degenerate_logits(shape, generator, dtype).requires_grad_()
        labels = degenerate_labels(shape, generator)
        weights = torch.rand(50, generator=generator).round() if number % 2 else None
        value = rmi_loss(logits, labels, weights=weights)
        value.backward()
        assert value.isfinite(), (number, shape)
        assert logits.grad.isfinite().all(), (number, shape)
