"""Networks of other people as segmenters."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from polyscale.errors import UserError
from polyscale.models.foreign import ForeignConfig, ForeignSegmenter, build_foreign, find_logits


class Strict(nn.Module):
    """Takes sides that 8 divides only, and says so like smp."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.last = nn.ConvTranspose2d(6, num_classes, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] % 8 or x.shape[-2] % 8:
            raise RuntimeError("Wrong input shape; sides must be divisible by 8")
        return self.last(self.inner(x))


def test_the_multiple_is_found_and_any_size_taken() -> None:
    torch.manual_seed(0)
    network = Strict().eval()
    segmenter = ForeignSegmenter(network, (0.5,) * 3, (0.25,) * 3)
    assert segmenter.multiple == 8
    for size in ((16, 24), (33, 47), (1, 1), (5, 64)):
        assert segmenter(torch.rand(2, 3, *size)).logits.shape == (2, 4, *size)


def test_logits_at_one_scale_are_bit_identical() -> None:
    torch.manual_seed(0)
    network, images = Strict().eval(), torch.rand(1, 3, 32, 40)
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    with torch.no_grad():
        theirs = network((images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1))
        assert torch.equal(ForeignSegmenter(network, mean, std)(images).logits, theirs)


def test_features_of_a_named_layer() -> None:
    segmenter = ForeignSegmenter(Strict(), (0, 0, 0), (1, 1, 1), features="inner")
    view = segmenter(torch.rand(1, 3, 33, 47))
    assert view.features is not None
    assert view.features.shape == (1, 6, 17, 24)
    with pytest.raises(UserError, match="no layer 'outer'; its outermost layers are inner, last"):
        ForeignSegmenter(Strict(), (0, 0, 0), (1, 1, 1), features="outer")


def test_logits_are_found_in_what_libraries_give() -> None:
    x = torch.rand(1, 3, 4, 4)
    for output in (x, {"out": x, "aux": x}, SimpleNamespace(logits=x), [x, x]):
        assert find_logits(output) is x
    classes = torch.tensor([[[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]]])  # two queries; the last class is "nothing"
    masks = torch.stack([torch.full((2, 2), 9.0), torch.full((2, 2), -9.0)])[None]
    found = find_logits(SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks))
    assert found.shape == (1, 2, 2, 2)
    assert (found.argmax(1) == 0).all()
    with pytest.raises(UserError, match="no per-pixel logits were found in a dict"):
        find_logits({"boxes": x})


def test_what_is_missing_is_asked_for() -> None:
    with pytest.raises(UserError, match="does not say how images are normalised; give mean="):
        ForeignSegmenter(Strict())
    with pytest.raises(UserError, match="both mean and std"):
        ForeignSegmenter(Strict(), (0, 0, 0))
    with pytest.raises(UserError, match="takes images of no size that was tried"):
        ForeignSegmenter(nn.Linear(5, 5), (0, 0, 0), (1, 1, 1))


def test_the_configuration_builds_it_again() -> None:
    options: dict[str, Any] = {"in_channels": 3, "out_channels": 5, "kernel_size": 3, "padding": 1}
    segmenter = build_foreign(ForeignConfig(build="torch.nn:Conv2d", options=options, mean=(0, 0, 0), std=(1, 1, 1)))
    assert segmenter(torch.rand(1, 3, 7, 9)).logits.shape == (1, 5, 7, 9)
    with pytest.raises(UserError, match="torch.nn:Conv2d failed with TypeError"):
        build_foreign(ForeignConfig(build="torch.nn:Conv2d"))
    with pytest.raises(UserError, match="gives a dict, not a torch.nn.Module"):
        build_foreign(ForeignConfig(build="builtins:dict"))
