"""Weights of another checkpoint as a start for training: what fits is taken, what does not stays new."""

from pathlib import Path
from typing import NamedTuple

from polyscale.errors import UserError
from polyscale.models.checkpoint import read_metadata, read_weights
from polyscale.multiscale import MultiScale

__all__ = ["Start", "start_from"]


class Start(NamedTuple):
    """How much of a network came from a checkpoint."""

    num_taken: int
    new: tuple[str, ...]
    """Names of the tensors that it does not hold, or holds in another shape."""


def start_from(model: MultiScale, path: str | Path) -> Start:
    """Give ``model`` every tensor of a Polyscale checkpoint that it has under the same name and in the same shape.

    The whole backbone must fit. Decoder, classes and attention may differ: a checkpoint of one scale starts a
    hierarchical network, one of 65 classes a network of 19.

    Args:
        model: changed in place.
        path: the checkpoint.

    Raises:
        UserError: no Polyscale checkpoint, or one with another backbone or with weights that are not finite.
    """
    metadata = read_metadata(path)
    own, stored = model.state_dict(), read_weights(path)
    taken = {name: stored[name] for name, value in own.items() if name in stored and stored[name].shape == value.shape}
    new = tuple(name for name in own if name not in taken)
    if not all(bool(value.isfinite().all()) for value in taken.values()):
        raise UserError(f"{path} holds weights that are not finite: its training diverged; choose another checkpoint")
    part_of = model.part_of()
    if any(part_of[name] == "backbone" for name in new):
        raise UserError(
            f"{path} holds the backbone {metadata.config.backbone.name!r}, which does not fit "
            f"{model.config.backbone.name!r} here; choose a checkpoint with the same model.backbone"
        )
    model.load_state_dict(own | taken)
    return Start(len(taken), new)
