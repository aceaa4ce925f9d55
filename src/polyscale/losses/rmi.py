"""Region mutual information (Zhao, Wang, Yang, Cai, 2019, arXiv:1910.12037): a loss on neighbourhoods, not pixels.

A pixel and its neighbours are one sample of a d = radius * radius dimensional variable; one such variable Y for the
labels of a class, one P for its probabilities. The loss lowers how much of Y remains unknown once P is known. Under a
Gaussian the entropy of that remainder is, up to a constant,

    I = 1/2 log det(S_Y - S_YP (S_P)^-1 S_PY),

with S the covariances over all neighbourhoods (sums, not means, as published). The paper's lower bound of the mutual
information is -I, so minimising I maximises the bound. It has no floor at zero: losses may be negative.

Unusual here:
  * S_P and S_Y - ... are never formed. They are the two diagonal blocks of one Cholesky factorisation: for the joint
    covariance of (P, Y) the lower block of the factor *is* the factor of the remainder. One matrix of 2d x 2d for each
    image and class, which is positive definite by construction, so that no inverse is taken and nothing cancels.
  * Covariances are float64 whatever autocast says: the diagonal 5e-4 is added to sums over thousands of neighbourhoods,
    which float32 loses.
  * Labels are pooled by counting pixels into cells; no one-hot tensor is made.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from polyscale.errors import UserError
from polyscale.labels import IGNORE
from polyscale.losses.bce import summed_bce
from polyscale.losses.inputs import Target, portions, prepared
from polyscale.losses.reduction import global_count

__all__ = ["region_mutual_information", "rmi_loss"]

_ADDED_PROBABILITY = 1e-6
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
        parts = [
            (summed_bce(z, part), _summed_information(z, part, radius, pool)) for z, part in portions(logits, target)
        ]
        pixels, regions = (torch.stack(part).sum() for part in zip(*parts, strict=True))
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
        UserError: the sizes do not match, a label is not a class, or single pixels have weights.
    """
    with prepared(logits, labels, weights, ignore) as (logits, target):
        regions = [_summed_information(z, part, radius, pool) for z, part in portions(logits, target)]
        return torch.stack(regions).sum() / _num_images(target)


def _num_images(target: Target) -> Tensor:
    """What a sum over images is divided by, 1 where none counts."""
    count = global_count(_image_weights(target).sum())
    return torch.where(count > 0, count, 1)


def _image_weights(target: Target) -> Tensor:
    if target.images is None:
        raise UserError("rmi compares neighbourhoods and has no weights of pixels; give one for each image, or use bce")
    return target.images


def _summed_information(logits: Tensor, target: Target, radius: int, pool: int) -> Tensor:
    """The sum over images and classes of I / d, each image times its weight, a scalar."""
    weights = _image_weights(target)
    probabilities = logits.sigmoid() * target.valid[:, None] + _ADDED_PROBABILITY
    probabilities = functional.avg_pool2d(probabilities, pool, stride=pool, padding=pool // 2)
    truth = _pooled_one_hot(target, probabilities, pool)
    remainder = _log_det_remainder(_wide(probabilities), _wide(truth), radius)
    remainder = remainder * weights.to(remainder)[:, None]
    return (0.5 * remainder.sum() / radius**2).to(logits.device, logits.dtype)


def _wide(x: Tensor) -> Tensor:
    # Apple's MPS has no float64: there the pooled maps, a sixteenth of the pixels, go through the CPU.
    return (x.cpu() if x.device.type == "mps" else x).double()


def _pooled_one_hot(target: Target, like: Tensor, pool: int) -> Tensor:
    """The average-pooled one-hot labels, (N, C, h, w) like ``like``, by adding each pixel to the cell that holds it."""
    labels, valid = target.labels, target.valid
    num_images, num_classes, height, width = like.shape
    rows = (torch.arange(labels.shape[1], device=labels.device) + pool // 2) // pool
    columns = (torch.arange(labels.shape[2], device=labels.device) + pool // 2) // pool
    # Pooling leaves out the last rows and columns where they do not fill a cell.
    counts = valid & ((rows < height)[:, None] & (columns < width))
    cells = rows.clamp(max=height - 1)[:, None] * width + columns.clamp(max=width - 1)
    images = torch.arange(num_images, device=labels.device)[:, None, None]
    index = (images * num_classes + torch.where(valid, labels, 0)) * (height * width) + cells
    pooled = torch.zeros(like.numel(), dtype=like.dtype, device=like.device)
    pooled.scatter_add_(0, index.flatten(), counts.flatten().to(like.dtype))
    return pooled.view(like.shape) / pool**2


def _log_det_remainder(probabilities: Tensor, truth: Tensor, radius: int) -> Tensor:
    """(N, C): log det of the covariance of the truth that the probabilities leave over; maps (N, C, h, w), float64."""
    covariance = _JointCovariance.apply(_neighbourhoods(probabilities, radius), _neighbourhoods(truth, radius))
    diagonal = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device) * _DIAGONAL
    factor = _cholesky(covariance + diagonal)
    # Probabilities come first, so the lower right block factorises what they leave of the truth.
    remainder = factor.diagonal(dim1=-2, dim2=-1)[..., radius**2 :]
    return 2 * (remainder + _INSIDE_LOG).log().sum(-1)


def _neighbourhoods(x: Tensor, radius: int) -> Tensor:
    """(N, C, h, w) to (N, C, radius * radius, K): the K shifts of each position in a neighbourhood, near zero mean."""
    # Covariances do not change when a constant is taken away, and sums near zero lose no digits.
    x = x - x.mean((2, 3), keepdim=True).detach()
    below, right = (max(radius - side, 0) for side in x.shape[-2:])
    x = functional.pad(x, (0, right, 0, below))
    height, width = (side - radius + 1 for side in x.shape[-2:])
    shifts = [x[..., i : i + height, j : j + width] for i in range(radius) for j in range(radius)]
    return torch.stack(shifts, dim=2).flatten(3)


class _JointCovariance(torch.autograd.Function):
    """Covariance sums of (P, Y), (N, C, 2d, 2d), from samples p and y (N, C, d, K); differentiable in p.

    The backward pass is one product. Autograd's own takes four and sums their results, each as large as the samples.
    """

    @staticmethod
    def forward(ctx: Any, p: Tensor, y: Tensor) -> Tensor:
        # The row of ones brings the sums along with the products.
        joint = torch.cat([p, y, torch.ones_like(p[:, :, :1])], dim=2)
        ctx.save_for_backward(joint)
        products = joint @ joint.transpose(2, 3)
        sums = products[:, :, :-1, -1:]
        return products[:, :, :-1, :-1] - sums @ sums.transpose(2, 3) / p.shape[3]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (joint,) = ctx.saved_tensors
        gradient = gradients[0]
        weights = (gradient + gradient.transpose(2, 3))[:, :, : gradient.shape[2] // 2]
        means = joint[:, :, :-1].mean(3, keepdim=True)
        return torch.cat([weights, -weights @ means], dim=3) @ joint, None


def _cholesky(matrices: Tensor) -> Tensor:
    """Lower Cholesky factors of (..., D, D) without raising: the diagonal grows where a matrix is indefinite.

    A matrix that no diagonal mends (it holds NaN or infinity) has NaN factors, for the caller to see in the loss.
    """
    factor: Tensor
    factor, info = torch.linalg.cholesky_ex(matrices)
    finite = matrices.detach().isfinite().all(-1).all(-1)
    size = matrices.detach().diagonal(dim1=-2, dim2=-1).abs().amax(-1).clamp(min=1)
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    extra = torch.zeros_like(size)
    for exponent in range(6):
        failed = (info != 0) & finite
        if not bool(failed.any()):
            break
        extra = torch.where(failed, size * _DIAGONAL * 10**exponent, extra)
        factor, info = torch.linalg.cholesky_ex(matrices + extra[..., None, None] * identity)
    return factor.masked_fill((info != 0)[..., None, None], torch.nan)
