"""Does an exported file give what the network gives? At sizes that were never traced, odd ones among them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from polyscale.errors import UserError
from polyscale.export.graph import Exportable
from polyscale.models.onnx_network import INPUT, open_onnx

__all__ = ["Agreement", "agreement", "check", "open_file", "sizes_to_try"]

LEAST_AGREEMENT = 0.999
"""Share of pixels with the same class; equal within rounding gives 1."""

LARGEST_DIFFERENCE = 0.01
"""Largest difference of a logit, as a share of the largest logit."""

Runs = Callable[[Tensor], Sequence[Tensor]]


class Agreement(NamedTuple):
    """Comparison of a file with the network."""

    sizes: tuple[tuple[int, int], ...]
    """(H, W) of the images."""
    labels: float
    """Share of pixels with the same class."""
    logits: float
    """Largest difference of a logit."""
    relative: float
    """The same, as a share of the largest logit."""
    weights: float
    """Largest difference of how much a scale counts, where the class is the same."""

    def __str__(self) -> str:
        small, large = min(self.sizes), max(self.sizes)
        sizes = f"{small[0]}x{small[1]}" + ("" if small == large else f" to {large[0]}x{large[1]}")
        return (
            f"classes agree on {self.labels:.3%} of the pixels ({len(self.sizes)} images, {sizes}); largest difference "
            f"of a logit {self.logits:.2g}, of a weight {self.weights:.2g}"
        )


def sizes_to_try(size: tuple[int, int] | None, smallest: float) -> tuple[tuple[int, int], ...]:
    """Sizes to compare at: three images of a fixed one; else multiples of 32 and of nothing, and small ones.

    Args:
        size: (H, W) of a fixed one, or None.
        smallest: the coarsest scale, at which an image needs two pixels.
    """
    if size is not None:
        return (size,) * 3
    least = -(-2 // min(smallest, 1))
    return (96, 160), (97, 131), (160, 61), (126, 222), (33, 40), (int(least), int(least) + 5)


def agreement(runs: Runs, network: Exportable, sizes: Sequence[tuple[int, int]]) -> Agreement:
    """Compare on images of random structure.

    Args:
        runs: images (N, 3, H, W) to what ``Exportable`` gives.
        network: computed by torch.
        sizes: (H, W) of an image each; the first is shown as a batch of two.
    """
    generator = torch.Generator().manual_seed(0)
    same = pixels = 0
    logits = relative = weights = 0.0
    for place, (height, width) in enumerate(sizes):
        shape = (2 if place == 0 else 1, 3, height // 8 + 2, width // 8 + 2)
        coarse = functional.interpolate(torch.rand(shape, generator=generator), (height, width), mode="bilinear")
        images = 0.8 * coarse + 0.2 * torch.rand(coarse.shape, generator=generator)
        with torch.inference_mode():
            expected = network(images)
            found = runs(images)
        if [x.shape for x in found] != [x.shape for x in expected]:
            return Agreement(tuple(sizes), 0.0, float("inf"), float("inf"), float("inf"))
        equal = found[0].argmax(1) == expected[0].argmax(1)
        same, pixels = same + int(equal.sum()), pixels + equal.numel()
        difference = float((found[0] - expected[0]).abs().max())
        logits = max(logits, difference)
        relative = max(relative, difference / max(float(expected[0].abs().max()), 1e-6))
        if len(found) > 1:
            weights = max(weights, float(((found[1] - expected[1]).abs() * equal[:, None]).max()))
    return Agreement(tuple(sizes), same / pixels, logits, relative, weights)


def check(found: Agreement, name: Path) -> None:
    """Refuse a file that differs from the network by more than rounding.

    Raises:
        UserError: it does.
    """
    # Not "larger than": what is not a number shall not pass.
    if not (found.labels >= LEAST_AGREEMENT and found.relative <= LARGEST_DIFFERENCE):
        raise UserError(
            f"{name} was not written, as it does not give what the network gives: {found}; export one size with "
            "--size HxW, or skip the comparison with --no-verify"
        )


def open_file(path: Path) -> Runs:
    """A function that runs an exported file."""
    if path.suffix == ".pt2":
        program = torch.export.load(path).module()
        return lambda images: list(program(images))
    session = open_onnx(path)[0].session
    return lambda images: [torch.from_numpy(x) for x in session.run(None, {INPUT: images.numpy()})]
