import pytest
import torch

from polyscale.errors import UserError
from polyscale.losses import bce, cross_entropy, dice, focal, lovasz_softmax, region_mutual_information, rmi_loss
from polyscale.losses.inputs import Target, portions, prepared

LOSSES = {
    "rmi": rmi_loss,
    "information": region_mutual_information,
    "bce": bce,
    "dice": dice,
    "focal": focal,
    "focal, half a power": lambda *a, **k: focal(*a, gamma=0.5, **k),
    "lovasz": lovasz_softmax,
    "cross_entropy": cross_entropy,
    "hard examples": lambda *a, **k: cross_entropy(*a, ohem_threshold=0.5, label_smoothing=0.1, **k),
    "weighted": lambda logits, labels, **k: cross_entropy(
        logits, labels, class_weights=torch.linspace(0, 1, logits.shape[1]), **k
    ),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def value_and_gradient(loss, logits, labels, **options):
    logits = logits.clone().requires_grad_()
    value = loss(logits, labels, **options)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


@every_loss
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 9), (5, 7), (9, 6), (11, 21)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_degenerate_crops_are_finite(loss, size, dtype):
    generator = torch.Generator().manual_seed(0)
    shape = (2, 4, *size)
    noise = torch.randn(shape, generator=generator)
    saturated = torch.where(noise > 0, 1e4, -1e4)
    labels = torch.randint(0, 4, (2, *size), generator=generator)
    one_pixel = torch.full_like(labels, 255)
    one_pixel[0, 0, 0] = 2
    half_ignored = torch.where(torch.arange(2)[:, None, None] == 0, labels, 255)
    crops = {
        "ordinary": labels,
        "one class": torch.full_like(labels, 3),
        "wholly ignored": torch.full_like(labels, 255),
        "one pixel": one_pixel,
        "one image ignored": half_ignored,
    }
    for name, crop in crops.items():
        for logits in (torch.zeros(shape), torch.full(shape, 7.0), noise, saturated, torch.full(shape, -1e4)):
            value, gradient = value_and_gradient(loss, logits.to(dtype), crop)
            assert value.isfinite(), name
            assert gradient.isfinite().all(), name
            assert gradient.dtype == dtype
            assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            assert not gradient[(crop == 255)[:, None].expand(shape)].any(), name


@every_loss
def test_what_is_ignored_changes_nothing(loss):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 20, 24, generator=generator)
    labels = torch.randint(0, 3, (2, 20, 24), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.3] = 255
    other = torch.where((labels == 255)[:, None], torch.randn(logits.shape, generator=generator) * 9, logits)
    torch.testing.assert_close(loss(other, labels), loss(logits, labels), rtol=0, atol=0)
    # Another ignored id, as someone who calls the function directly may have.
    torch.testing.assert_close(
        loss(logits, torch.where(labels == 255, -1, labels), ignore=-1), loss(logits, labels), rtol=0, atol=0
    )
    torch.testing.assert_close(loss(logits, labels.to(torch.uint8)), loss(logits, labels), rtol=0, atol=0)


@every_loss
def test_autocast_does_not_reach_inside(loss):
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(2, 3, 20, 24, generator=generator).bfloat16()
    labels = torch.randint(0, 3, (2, 20, 24), generator=generator)
    expected = value_and_gradient(loss, logits.float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradient = value_and_gradient(loss, logits, labels)
    torch.testing.assert_close(value, expected[0], rtol=0, atol=0)
    torch.testing.assert_close(gradient, expected[1].bfloat16(), rtol=0, atol=0)


@every_loss
def test_bad_labels_are_named(loss):
    logits = torch.zeros(1, 3, 4, 4)
    with pytest.raises(UserError, match=r"label ids outside 0 to 2: 3, 7; .* 255"):
        loss(logits, torch.tensor([0, 3, 7, 255]).repeat(1, 4, 1))
    with pytest.raises(UserError, match=r"\(1, 3, 4, 4\) and labels \(1, 4, 5\) do not match"):
        loss(logits, torch.zeros(1, 4, 5, dtype=torch.long))
    with pytest.raises(UserError, match="labels must be integers"):
        loss(logits, torch.zeros(1, 4, 4))


def test_negative_labels_are_not_classes():
    logits = torch.zeros(1, 2, 1, 2)
    with pytest.raises(UserError, match="-100"):
        Target.of(logits, torch.tensor([[[0, -100]]]))
    Target.of(logits, torch.tensor([[[1, 255]]], dtype=torch.uint8))
    Target.of(logits[:0], torch.zeros(0, 1, 2, dtype=torch.long))


def test_long_lists_of_bad_labels_are_cut():
    with pytest.raises(UserError, match=r"2, 3, 4, 5, 6 and 3 more; map") as error:
        Target.of(torch.zeros(1, 2, 1, 10), torch.arange(10)[None, None])
    assert "\n" not in str(error.value)


@pytest.fixture
def target():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (2, 6, 8), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    weights = torch.rand(labels.shape, generator=generator) * (torch.rand(labels.shape, generator=generator) < 0.7)
    return Target.of(torch.zeros(2, 3, 6, 8), labels, weights)


def test_a_pixel_without_a_label_or_a_weight_does_not_count(target):
    assert 0 < target.valid.sum() < target.valid.numel()
    assert torch.equal(target.valid, target.weights > 0)
    assert torch.equal(target.valid, target.labels != 255)
    assert target.images is None


def test_weights_of_images_and_none():
    logits, labels = torch.zeros(2, 3, 1, 2, dtype=torch.float64), torch.tensor([[[0, 255]], [[1, 2]]])
    each = Target.of(logits, labels, torch.tensor([3, 0]))
    assert each.images.tolist() == [3, 0]
    assert each.weights.tolist() == [[[3, 0]], [[0, 0]]]
    assert each.labels.tolist() == [[[0, 255]], [[255, 255]]]
    plain = Target.of(logits, labels)
    assert plain.images.tolist() == [1, 1]
    assert plain.weights.tolist() == [[[1, 0]], [[1, 1]]]
    assert plain.weights.dtype == torch.float64


def test_only_chosen_pixels_are_kept(target):
    chosen = torch.arange(8) < 4
    kept = target.keep(chosen)
    assert torch.equal(kept.labels[..., :4], target.labels[..., :4])
    assert (kept.labels[..., 4:] == 255).all()
    assert torch.equal(kept.valid, target.valid & chosen)
    assert torch.equal(kept.weights, target.weights * chosen)


def test_another_grid_takes_the_pixel_under_the_middle(target):
    small = target.at((3, 4))
    for name in ("labels", "valid", "weights"):
        assert torch.equal(getattr(small, name), getattr(target, name)[:, 1::2, 1::2])


def test_a_target_is_taken_as_it_is(target):
    with prepared(torch.zeros(2, 3, 6, 8, dtype=torch.float16), target) as (logits, same):
        assert same is target
        assert logits.dtype == torch.float32


def test_portions_cover_the_batch(target):
    logits = torch.randn(2, 3, 6, 8)
    parts = list(portions(logits, target))
    assert torch.equal(torch.cat([z for z, _ in parts]), logits)
    for name in ("labels", "valid", "weights"):
        assert torch.equal(torch.cat([getattr(part, name) for _, part in parts]), getattr(target, name))
