"""RMI forward and backward beside the plain way of writing it: time, peak memory, and how far the two are apart.

    python benchmarks/rmi_speed.py

The plain way is the formula of arXiv:1910.12037 in the usual operations: one-hot labels, BCE of all classes, a copy of
the pooled maps for each position in a neighbourhood, an inverse and a Cholesky factorisation, with the covariances in
float64.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from record import save, show
from side_by_side import peak_bytes, ratios, times

import torch  # isort: skip
from torch import Tensor
from torch.nn import functional

from polyscale.labels import IGNORE
from polyscale.losses import rmi_loss


def plain_rmi(logits: Tensor, labels: Tensor, radius: int = 3, pool: int = 4) -> Tensor:
    """BCE and region mutual information, half and half, without a trick."""
    valid = labels != IGNORE
    one_hot = functional.one_hot(torch.where(valid, labels, 0), logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    one_hot = one_hot * valid[:, None]
    pixels = functional.binary_cross_entropy_with_logits(
        logits, one_hot, weight=valid[:, None].to(logits.dtype), reduction="sum"
    )
    pixels = pixels / (valid.sum() + 1)
    probabilities = logits.sigmoid() * valid[:, None] + 1e-6
    maps = [functional.avg_pool2d(x, pool, pool, pool // 2) for x in (probabilities, one_hot)]
    p, y = (_neighbourhoods(x, radius).double() for x in maps)
    diagonal = 5e-4 * torch.eye(radius**2, dtype=torch.float64, device=logits.device)
    p, y = (x - x.mean(3, keepdim=True) for x in (p, y))
    inverse = torch.linalg.inv(p @ p.transpose(2, 3) + diagonal)
    both = y @ p.transpose(2, 3)
    remainder = y @ y.transpose(2, 3) - both @ inverse @ both.transpose(2, 3)
    factor = torch.linalg.cholesky(remainder + diagonal)
    regions = (factor.diagonal(dim1=2, dim2=3) + 1e-8).log().sum(2)
    return 0.5 * pixels + 0.5 * regions.sum(1).mean().to(logits.dtype) / radius**2


def _neighbourhoods(x: Tensor, radius: int) -> Tensor:
    height, width = (side - radius + 1 for side in x.shape[2:])
    shifts = [x[:, :, i : i + height, j : j + width] for i in range(radius) for j in range(radius)]
    return torch.stack(shifts, 2).flatten(3)


LOSSES = {"plain": plain_rmi, "Polyscale": rmi_loss}


def batch(shape: tuple[int, int, int, int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Random logits, and labels in blocks of 16 x 16 pixels of which a tenth are ignored."""
    generator = torch.Generator().manual_seed(0)
    num_images, num_classes, height, width = shape
    logits = 2 * torch.randn(shape, generator=generator, dtype=dtype)
    blocks = torch.randint(0, num_classes, (num_images, height // 16 + 1, width // 16 + 1), generator=generator)
    blocks[torch.rand(blocks.shape, generator=generator) < 0.1] = IGNORE
    labels = blocks.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, :height, :width]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return logits.to(device).requires_grad_(), labels.to(device)


def value_and_gradient(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """One loss and its gradient."""
    value = loss(logits, labels)
    return value, *torch.autograd.grad(value, logits)


def differences(shape: tuple[int, int, int, int]) -> dict[str, float]:
    """Of value and gradient in float64, relative."""
    logits, labels = batch(shape, torch.float64)
    plain, ours = (value_and_gradient(loss, logits, labels) for loss in LOSSES.values())
    return {
        name: float((b - a).detach().norm() / a.detach().norm())
        for name, a, b in zip(("value", "gradient"), plain, ours, strict=True)
    }


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=4, default=(2, 19, 512, 512), metavar=("N", "C", "H", "W"))
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=None, help="folder of the result; by default benchmarks/results")
    arguments = parser.parse_args()
    logits, labels = batch(tuple(arguments.shape), torch.float32)
    works = {name: partial(value_and_gradient, loss, logits, labels) for name, loss in LOSSES.items()}
    measured = times(works, arguments.repeats)
    for name, work in works.items():
        measured[name]["peak_bytes"] = peak_bytes(work)
    apart = differences(tuple(arguments.shape))
    relative = ratios(measured, "plain")
    rows = [
        [
            name,
            f"{1000 * row['seconds']:.0f} ({relative[name]['seconds']:.2f})",
            f"{1000 * row['processor_seconds']:.0f} ({relative[name]['processor_seconds']:.2f})",
            f"{row['peak_bytes'] / 1e6:.0f} ({relative[name]['peak_bytes']:.2f})",
        ]
        for name, row in measured.items()
    ]
    title = f"RMI, forward and backward, {' x '.join(map(str, arguments.shape))}: medians (over plain)"
    show(title, ["", "ms", "processor ms", "peak MB"], rows)
    print(f"apart in float64: value {apart['value']:.1e}, gradient {apart['gradient']:.1e}, relative")
    facts = {"shape": list(arguments.shape), "repeats": arguments.repeats, "device": str(logits.device)}
    save("rmi_speed", {**facts, "measured": measured, "over_plain": relative, "apart": apart}, arguments.out)


if __name__ == "__main__":
    main()
