"""``polyscale.attend``: scale attention for a network of Polyscale or of anyone else."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn

from polyscale.attending.config import AttendConfig
from polyscale.attending.run import AttendResult, attend_network
from polyscale.baselines import AveragePooling
from polyscale.config import import_path, validate
from polyscale.data import SegmentationData, open_data
from polyscale.errors import UserError
from polyscale.inference.predictor import Predictor
from polyscale.labels import LabelSpace
from polyscale.models import ModelConfig
from polyscale.models.checkpoint import Checkpoint, load_checkpoint
from polyscale.models.foreign import ForeignConfig, ForeignSegmenter
from polyscale.multiscale import MultiScale

__all__ = ["attend"]


def attend(
    model: str | Path | Predictor | nn.Module,
    data: str | Path | SegmentationData,
    out: str | Path | None = None,
    *,
    held_out: str | Path | SegmentationData | None = None,
    label_space: LabelSpace | None = None,
    settings: AttendConfig | Mapping[str, Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    multiple: int | None = None,
    logits: Callable[[Any], Tensor] | None = None,
    features: str | None = None,
    build: str | None = None,
    options: Mapping[str, Any] | None = None,
    device: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> AttendResult:
    """Learn which scale to trust where, for a trained network that stays as it is.

    Args:
        model: a checkpoint of Polyscale, a ``Predictor``, or any module that gives per-pixel logits:
            segmentation-models-pytorch, torchvision, transformers, your own.
        data: labelled images to learn from; those that the network was trained on will do.
        out: folder of the result; None keeps it in memory.
        held_out: labelled images that judge whether the attention is worth having; None holds some of ``data`` out.
        label_space: of a foreign network's classes; by default that of the data.
        settings: as in ``AttendConfig``, such as ``{"scales": (0.5, 1, 2)}``.
        mean: of RGB in [0, 1], that a foreign network was trained with; None looks for it in the network.
        std: likewise.
        multiple: sides of images must be multiples of this for a foreign network; None finds it by trying.
        logits: a foreign network's output to logits (N, C, h, w); None finds them.
        features: with ``reads: both``, the name of the layer whose output is read as well.
        build: import path of a function that makes the foreign network. With it the result is saved as a checkpoint,
            which ``polyscale.load(path, trust=[build])`` builds again.
        options: keyword arguments of ``build``.
        device: where to compute; by default the first GPU where there is one.
        progress: told of (what, how much is done, of how much).

    Raises:
        UserError: something cannot be used or found; the message says what to give.

    Example:
        >>> import polyscale, torch
        >>> mine = torch.nn.Conv2d(3, 9, 5, stride=4, padding=2)
        >>> streets = polyscale.open_data("streets:train")  # doctest: +SKIP
        >>> result = polyscale.attend(mine, streets, mean=(0, 0, 0), std=(1, 1, 1))  # doctest: +SKIP
        >>> result.predictor.predict("photo.jpg").labels.shape  # doctest: +SKIP
    """
    chosen = settings if isinstance(settings, AttendConfig) else validate(AttendConfig, dict(settings or {}))
    known = label_space
    checkpoint: Checkpoint | None = None
    if isinstance(model, str | Path):
        checkpoint = load_checkpoint(model)
    elif isinstance(model, Predictor):
        checkpoint = Checkpoint(model.model, model.model.config, model.label_space)
    if checkpoint is not None:
        known = checkpoint.label_space
    taught = open_data(data, label_space=known) if isinstance(data, str | Path) else data
    judges = open_data(held_out, label_space=known) if isinstance(held_out, str | Path) else held_out
    if checkpoint is None:
        assert isinstance(model, nn.Module)
        space = label_space or taught.label_space
        if isinstance(model, MultiScale):
            checkpoint = Checkpoint(model, model.config, space)
        else:
            segmenter = ForeignSegmenter(model, mean, std, multiple, logits, features)
            config = None if build is None else _config(segmenter, build, dict(options or {}), logits)
            checkpoint = Checkpoint(AveragePooling(segmenter, chosen.scales), config, space)  # type: ignore[arg-type]
    if out is not None:
        return attend_network(checkpoint, taught, judges, out, chosen, device, progress)
    with TemporaryDirectory() as folder:
        return replace(attend_network(checkpoint, taught, judges, folder, chosen, device, progress), best=None)


def _config(
    segmenter: ForeignSegmenter, build: str, options: dict[str, Any], logits: Callable[[Any], Tensor] | None
) -> ModelConfig:
    import_path(build)
    named = None if logits is None else f"{logits.__module__}:{logits.__qualname__}"
    if named is not None and "<" in named:
        raise UserError("logits must be a function with a name, in a module, for a checkpoint to find it again")
    foreign = ForeignConfig(
        build=build,
        options=options,
        mean=tuple(segmenter.mean.flatten().tolist()),
        std=tuple(segmenter.std.flatten().tolist()),
        multiple=segmenter.multiple,
        logits=named,
        features=segmenter.features,
    )
    return ModelConfig(foreign=foreign)
