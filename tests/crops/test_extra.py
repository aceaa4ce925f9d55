from typing import get_args

import numpy as np
import pytest
import torch

from polyscale.config import validate
from polyscale.crops import AugmentConfig, augment
from polyscale.crops.extra import ExtraTransform, Name, apply_extra
from polyscale.errors import UserError

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
OPTIONS = {
    "GaussianBlur": {"kernel_size": 5},
    "JPEG": {"quality": [20, 40]},
    "RandomPosterize": {"bits": 3},
    "RandomSolarize": {"threshold": 128},
    "RandomAdjustSharpness": {"sharpness_factor": 3},
    "ColorJitter": {"brightness": 0.5},
}


@pytest.mark.parametrize("name", get_args(Name))
def test_every_transform_gives_bytes_of_the_same_shape_and_the_same_for_equal_numbers(name):
    extra = [ExtraTransform(name=name, options=OPTIONS.get(name, {}))]
    results = [apply_extra(IMAGE, extra, np.random.default_rng(3)) for _ in range(2)]
    assert results[0].shape == IMAGE.shape
    assert results[0].dtype == np.uint8
    np.testing.assert_array_equal(*results)


def test_the_probability_is_kept_and_torchs_numbers_are_left_alone():
    extra = [ExtraTransform(name="RandomGrayscale", p=0.3)]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    rng = np.random.default_rng(0)
    grey = 0
    for _ in range(200):
        result = apply_extra(IMAGE, extra, rng)
        grey += int((result[..., 0] == result[..., 1]).all())
    assert 40 < grey < 80
    assert torch.equal(before, torch.get_rng_state())


def test_labels_and_crops_stay_where_they_are():
    labels = np.arange(600, dtype=np.uint8).reshape(20, 30) % 7
    plain = AugmentConfig(crop=(12, 12))
    more = AugmentConfig(crop=(12, 12), extra=({"name": "RandomInvert"},))
    first, second = (augment(IMAGE, labels, config, np.random.default_rng(9)) for config in (plain, more))
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], second[0])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"name": "RandomRotation", "options": {"degrees": 9}}, "extra.0.name"),
        ({"name": "GaussianBlur"}, "GaussianBlur does not take options"),
        ({"name": "GaussianBlur", "options": {"kernel_size": 4}}, "odd"),
        ({"name": "RandomInvert", "options": {"p": 0.1}}, "write p beside the name"),
    ],
)
def test_what_cannot_be_made_is_told_in_one_line(extra, message):
    with pytest.raises(UserError, match=message) as caught:
        validate(AugmentConfig, {"extra": [extra]})
    assert "\n" not in str(caught.value)
