"""Region mutual information (Zhao, Wang, Yang, Cai, 2019, arXiv:1910.12037): a loss on neighbourhoods, not pixels.

A pixel and its neighbours are one sample of a d = radius * radius dimensional variable; one such variable Y for the
labels of a class, one P for its probabilities. The loss lowers how much of Y remains unknown once P is known. Under a
Gaussian the entropy of that remainder is, up to a constant,

    I = 1/2 log det(S_Y - S_YP (S_P)^-1 S_PY),

with S the covariances over all neighbourhoods (sums, not means, as published). The paper's lower bound of the mutual
information is -I, so minimising I maximises the bound. It has no floor at zero: losses may be negative.

S_P and S_Y - ... are never formed. They are the two diagonal blocks of one Cholesky factorisation: for the joint
covariance of (P, Y) the lower block of the factor *is* the factor of the remainder. There is one matrix of 2d x 2d for
each image and class, positive definite by construction: no inverse is taken, and nothing cancels.

Covariances are float64 whatever autocast says. The diagonal 5e-4 is added to sums over thousands of neighbourhoods,
which float32 loses.
"""

import torch
from torch import Tensor

from polyscale.errors import UserError
from polyscale.labels import IGNORE
from polyscale.losses.inputs import Target, prepared
from polyscale.losses.neighbourhoods import joint_covariance, pixels_and_cells, pooled_one_hot
from polyscale.losses.reduction import global_count

__all__ = ["region_mutual_information", "rmi_loss"]

_DIAGONAL = 5e-4
_INSIDE_LOG = 1e-8


def rmi_loss(
    logits: Tensor,
    labels: Tensor | Target,
    *,
    weight_lambda: float = 0.5,
    radius: int = 3,
    pool: int = 4,
    weights: Tensor | None = None,
    ignore: int = IGNORE,
) -> Tensor:
    """``weight_lambda`` * BCE + (1 - ``weight_lambda``) * region mutual information (arXiv:1910.12037).

    An image of weight w counts like w images. Pixels have no weight of their own: neighbourhoods are compared whole.

    Args:
        logits: (N, C, H, W).
        labels: (N, H, W) integers, 0..C-1 or ``ignore``; or a prepared target, which holds the weights too.
        weight_lambda: share of the pixel-wise part, 0 to 1.
        radius: side of the square neighbourhood in pooled pixels.
        pool: side and stride of the average pooling before neighbourhoods are taken.
        weights: >= 0, of each image, (N,); None for ones.
        ignore: the label of pixels that do not count.

    Returns:
        Scalar, at least float32, finite for finite logits; may be negative.

    Raises:
        UserError: the sizes do not match, a label is not a class, or single pixels have weights.
    """
    with prepared(logits, labels, weights, ignore) as (logits, target):
        pixels, regions = _sums(logits, target, radius, pool)
        pixels = pixels / global_count(target.weights.sum(), extra=1)
        return weight_lambda * pixels + (1 - weight_lambda) * regions / _num_images(target)


def region_mutual_information(
    logits: Tensor,
    labels: Tensor | Target,
    *,
    radius: int = 3,
    pool: int = 4,
    weights: Tensor | None = None,
    ignore: int = IGNORE,
) -> Tensor:
    """The negative lower bound of the mutual information between neighbourhoods of labels and of probabilities.

    Probabilities are sigmoids. Ignored pixels have probability 0 and label 0 in every class, and 1e-6 is added to every
    probability, as the authors' code does. Both are average-pooled (``pool`` x ``pool``, that stride, half of it as
    zero padding, which counts). Summed over classes, divided by radius squared, mean over images of all processes.

    A map smaller than the neighbourhood is padded with zeros to one neighbourhood: its covariances are then zero, and
    the loss is the constant that the diagonal gives.

    Args:
        logits: (N, C, H, W).
        labels: (N, H, W) integers, 0..C-1 or ``ignore``; or a prepared target, which holds the weights too.
        radius: side of the square neighbourhood in pooled pixels.
        pool: side and stride of the average pooling.
        weights: >= 0, of each image, (N,); None for ones.
        ignore: the label of pixels that do not count.

    Returns:
        Scalar, at least float32, finite for finite logits; may be negative.

    Raises:
        UserError: as for ``rmi_loss``.
    """
    with prepared(logits, labels, weights, ignore) as (logits, target):
        return _sums(logits, target, radius, pool)[1] / _num_images(target)


def _sums(logits: Tensor, target: Target, radius: int, pool: int) -> tuple[Tensor, Tensor]:
    """BCE summed over pixels and classes; I / d summed over images, each times its weight, and classes."""
    weights = _image_weights(target)
    pixels, cells = pixels_and_cells(logits, target, pool)
    truth = pooled_one_hot(target, cells, pool)
    remainder = _log_det_remainder(_wide(cells), _wide(truth), radius)
    regions = 0.5 * (remainder * weights.to(remainder)[:, None]).sum() / radius**2
    return pixels, regions.to(logits.device, logits.dtype)


def _num_images(target: Target) -> Tensor:
    """Divisor of a sum over images: their weights over all processes, 1 where none counts."""
    count = global_count(_image_weights(target).sum())
    return torch.where(count > 0, count, 1)


def _image_weights(target: Target) -> Tensor:
    if target.images is None:
        raise UserError("rmi compares neighbourhoods and has no weights of pixels; give one for each image, or use bce")
    return target.images


def _wide(x: Tensor) -> Tensor:
    # Apple's MPS has no float64: there the pooled maps, a sixteenth of the pixels, go through the CPU.
    return (x.cpu() if x.device.type == "mps" else x).double()


def _log_det_remainder(probabilities: Tensor, truth: Tensor, radius: int) -> Tensor:
    """(N, C): log det of the covariance of the truth that the probabilities leave over; maps (N, C, h, w), float64."""
    covariance = joint_covariance(probabilities, truth, radius)
    diagonal = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device) * _DIAGONAL
    # A covariance is not negative, and the rounding of these sums is far below the diagonal: only NaN fails.
    factor, failed = torch.linalg.cholesky_ex(covariance + diagonal)
    factor = factor.masked_fill((failed != 0)[..., None, None], torch.nan)
    # Probabilities come first, so the lower right block factorises what they leave of the truth.
    remainder = factor.diagonal(dim1=-2, dim2=-1)[..., radius**2 :]
    doubled: Tensor = 2 * (remainder + _INSIDE_LOG).log().sum(-1)
    return doubled
