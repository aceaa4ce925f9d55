"""Puts tensors with the authors' names into a network of ours. A tensor that fits nowhere is an error."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from polyscale.errors import UserError
from polyscale.models.build import build_model
from polyscale.models.reference.names import our_name
from polyscale.models.reference.network import describe
from polyscale.multiscale import MultiScale

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "load_reference"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_NORMALISATION = ("segmenter.mean", "segmenter.std")


def load_reference(
    state: Mapping[str, Tensor],
    source: str,
    scales: Sequence[float] | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> MultiScale:
    """Build the network that the tensors belong to and give it their values; evaluation mode.

    Args:
        state: tensors under the reference's names, without ``module.``.
        source: the file, for messages.
        scales: see ``describe``.
        mean: of RGB in [0, 1], that the network was trained with.
        std: likewise.

    Raises:
        UserError: a network that cannot be built here, tensors that have no place, a place without a tensor, or a
            shape that differs, or values that are not finite; one line that names them.
    """
    network = describe(state, source, scales)
    model = build_model(network.config, network.num_classes)
    own = model.state_dict()
    renamed = {
        key: our_name(key, network.timm, network.config.decoder.kind, network.attention) or f"?{key}" for key in state
    }
    values = {name: state[key] for key, name in renamed.items()}
    for name, value in zip(_NORMALISATION, (mean, std), strict=True):
        values[name] = torch.tensor(value).reshape(3, 1, 1)
    for name, value in own.items():
        if name.endswith("num_batches_tracked"):  # files of old PyTorch versions have no counters
            values.setdefault(name, torch.zeros_like(value))
    theirs = {name: key for key, name in renamed.items()}
    problems = [
        _listed("has two tensors for one place", [key for key, name in renamed.items() if theirs[name] != key]),
        _listed("has tensors without a place here", [theirs[name] for name in values if name not in own]),
        _listed("lacks", [name for name in own if name not in values]),
        _listed(
            "has other shapes",
            [
                f"{theirs.get(name, name)} {tuple(values[name].shape)} instead of {tuple(value.shape)}"
                for name, value in own.items()
                if name in values and values[name].shape != value.shape
            ],
        ),
        _listed("has values that are not finite", [theirs.get(k, k) for k in values if not values[k].isfinite().all()]),
    ]
    if any(problems):
        raise UserError(f"{source} {'; '.join(filter(None, problems))}")
    model.load_state_dict(values, strict=True)
    return model.eval()


def _listed(what: str, names: Sequence[str]) -> str:
    """``what: a, b and 3 more``, or nothing where there are no names."""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"{what}: {', '.join(names[:4])}{more}" if names else ""
