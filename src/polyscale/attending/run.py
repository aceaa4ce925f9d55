"""Learns which scale to trust for a trained network: look, learn, judge, write."""

import contextlib
import copy
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from polyscale.attending.config import AttendConfig
from polyscale.attending.controls import controls
from polyscale.attending.judge import Judgement, judge
from polyscale.attending.learn import learn
from polyscale.attending.pixels import CachedPixels
from polyscale.attention import AttentionOverViews, ViewAttention
from polyscale.baselines import AveragePooling
from polyscale.data.held_out import held_out
from polyscale.data.items import Item, Sample, SegmentationData
from polyscale.errors import UserError
from polyscale.evaluation.checks import check_classes
from polyscale.files import check_folder, locked, write_atomically
from polyscale.inference.predictor import Predictor
from polyscale.labels import LabelSpace
from polyscale.looker import choose_device
from polyscale.models import AttentionConfig, ModelConfig, MultiScaleConfig, Segmenter, save_checkpoint
from polyscale.models.checkpoint import Checkpoint
from polyscale.models.onnx_network import OnnxNetwork
from polyscale.multiscale import MultiScale
from polyscale.processes import joined, local_device, share_weights, wait_for_all
from polyscale.views import View, look

__all__ = ["AttendResult", "attend_network", "with_attention"]

Work = Callable[[str, int, int], None]
"""Told of progress: what is being done, how much of it is done, and of how much."""


@dataclass(frozen=True)
class AttendResult:
    """Result of the run."""

    network: MultiScale
    """The network to use: with the attention where it beats averaging, else the average of the same scales."""
    label_space: LabelSpace
    best: Path | None
    """Its checkpoint; None for a network that no configuration can rebuild."""
    judgement: Judgement
    seconds: float

    @property
    def predictor(self) -> Predictor:
        """The network ready for images."""
        return Predictor(self.network, self.label_space)


class _Part(SegmentationData):
    """Some items of a data set."""

    def __init__(self, data: SegmentationData, indices: Sequence[int]) -> None:
        self._data, self._indices = data, tuple(indices)
        self.label_space: LabelSpace = data.label_space
        self.items: tuple[Item, ...] = tuple(data.items[index] for index in indices)

    def read(self, index: int) -> Sample:
        return self._data.read(self._indices[index])


def hold_out(data: SegmentationData, fraction: float) -> tuple[SegmentationData, SegmentationData]:
    """Training and held-out part of a data set.

    Raises:
        UserError: fewer than eight images, or a fraction that leaves none to learn from.
    """
    number = len(data)
    if number < 8:
        raise UserError(f"{number} images are too few to hold some of them out; give at least 8, or validation images")
    held = held_out(number, number * fraction)
    if len(held) == number:
        raise UserError(f"hold_out={fraction:g} leaves none of {number} images to learn from; choose less, such as 0.2")
    return _Part(data, [index for index in range(number) if index not in set(held)]), _Part(data, held)


def attend_network(
    checkpoint: Checkpoint,
    train_data: SegmentationData,
    held_out: SegmentationData | None,
    out: str | Path,
    config: AttendConfig | None = None,
    device: str | torch.device | None = None,
    progress: Work | None = None,
) -> AttendResult:
    """Learn attention over scales for a trained network, and leave the better of attention and average in ``out``.

    The network is frozen, its batch norms too. Each image is looked at once, and some of its pixels are kept on disk. A
    run that was killed goes on with what was kept. Under ``torchrun`` all processes look and judge, and the first one
    learns, which takes seconds.

    Args:
        checkpoint: the network, of any method; an attention of its own is left out.
        train_data: images with labels to learn from; those that the network was trained on will do.
        held_out: images with labels that judge; None holds out a part of ``train_data``.
        out: folder of the result.
        config: settings.
        device: where to compute; by default the first GPU where there is one.
        progress: told of each step of the work.

    Raises:
        UserError: images that cannot be used, classes that differ, or a folder that cannot be written.
    """
    config, out = config or AttendConfig(), Path(out)
    started = time.perf_counter()
    check_folder(out)
    check_classes(checkpoint.label_space, train_data.label_space)
    if held_out is None:
        train_data, held_out = hold_out(train_data, config.hold_out)
    else:
        check_classes(checkpoint.label_space, held_out.label_space)
    if len(train_data) > config.images:
        step = len(train_data) / config.images
        train_data = _Part(train_data, [int(number * step) for number in range(config.images)])
    working: Work = progress or (lambda *_: None)
    with joined() as (rank, world), contextlib.ExitStack() as stack:
        if rank == 0:
            stack.enter_context(locked(out / ".lock", f"another run is writing into {out}; choose another --out"))
        place = choose_device(local_device(None if device is None else str(device)))
        torch.manual_seed(config.seed)
        model = with_attention(checkpoint, config).to(place).eval().requires_grad_(False)
        cache = out / "views" / _fingerprint(model, config, train_data)
        taught = CachedPixels(model, train_data, config, cache)
        share = range(rank, len(taught), world)
        for done, index in enumerate(share, start=1):
            taught.look_ahead(index)
            working("looking at images", done, len(share))
        wait_for_all()
        others = controls(checkpoint.label_space.num_classes, config.scales, config.channels) if config.controls else []
        others = [control.to(place) for control in others]
        if rank == 0:
            pixels = taught.read()
            learn(model, pixels, config, partial(working, "learning attention"))
            for control in others:
                learn(control, pixels, config, partial(working, f"learning {control.name}"))
        for learnt in (model.head, *others):
            share_weights(learnt)
        judgement = judge(model, held_out, config, others, partial(working, "judging"))
        if rank:
            raise SystemExit(0)
        kept = model if judgement.keep else averaged(checkpoint, model, config.scales)
        best = _write(out, kept, checkpoint.label_space, config, judgement)
        shutil.rmtree(out / "views", ignore_errors=True)
    return AttendResult(
        kept.requires_grad_(True), checkpoint.label_space, best, judgement, time.perf_counter() - started
    )


def with_attention(checkpoint: Checkpoint, config: AttendConfig) -> AttentionOverViews:
    """The checkpoint's segmenter with a new attention over views, which starts as the average."""
    if isinstance(checkpoint.model, OnnxNetwork):
        raise UserError("an exported network cannot learn; name the checkpoint that it was made of")
    segmenter = copy.deepcopy(checkpoint.model.segmenter)
    if isinstance(segmenter, Segmenter):
        segmenter.attention = None
    space = checkpoint.label_space
    view = _first_view(segmenter, checkpoint.model.in_channels, config.reads == "both")
    if view.logits.shape[1] != space.num_classes:
        raise UserError(
            f"the network gives {view.logits.shape[1]} classes, and the data has {space.num_classes}; both must be the "
            "same classes in the same order"
        )
    width = 0 if view.features is None else view.features.shape[1]
    head = ViewAttention(space.num_classes, config.channels, space.num_classes if config.maps == "class" else 1, width)
    network = AttentionOverViews(segmenter, head, bool(width), config.scales, config.scales)
    attention = AttentionConfig(channels=config.channels, reads=config.reads, maps=config.maps)
    settings = MultiScaleConfig(train_scales=config.scales, eval_scales=config.scales, attention=attention)
    network.config = _renewed(checkpoint.config, settings)
    return network


def averaged(checkpoint: Checkpoint, network: MultiScale, scales: tuple[float, ...]) -> AveragePooling:
    """The same segmenter, averaged over the same scales."""
    average = AveragePooling(network.segmenter, scales)
    average.config = _renewed(checkpoint.config, MultiScaleConfig(method="average", eval_scales=scales))
    return average


@torch.no_grad()
def _first_view(segmenter: torch.nn.Module, channels: int, features: bool) -> View:
    """A view of an empty image, for its numbers of channels."""
    device = next((parameter.device for parameter in segmenter.parameters()), torch.device("cpu"))
    view = look(segmenter.eval(), torch.zeros(1, channels, 256, 256, device=device), 1.0, features=features, grid=True)
    if features and view.features is None:
        raise UserError("the network gives no features; set reads: views, or name a layer with features=…")
    return view


def _renewed(config: ModelConfig | None, settings: MultiScaleConfig) -> ModelConfig | None:
    """The configuration with another way of combining scales; None where the network has none."""
    if config is None:
        return None
    backbone = config.backbone.model_copy(update={"pretrained": False})
    return config.model_copy(update={"multiscale": settings, "backbone": backbone})


def _fingerprint(model: MultiScale, config: AttendConfig, train_data: SegmentationData) -> str:
    """Names what the cached pixels depend on; another network, data set or setting has another name."""
    digest = hashlib.sha256()
    for name, value in model.segmenter.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    digest.update(repr((config.scales, config.reads, config.seed, config.pixels, config.cache_gigabytes)).encode())
    digest.update(repr([(item.name, str(item.image)) for item in train_data.items]).encode())
    return digest.hexdigest()[:16]


def _write(
    out: Path, network: MultiScale, space: LabelSpace, config: AttendConfig, judgement: Judgement
) -> Path | None:
    facts: dict[str, Any] = {"settings": config.model_dump(mode="json"), "judgement": judgement.to_json()}
    with write_atomically(out / "attend.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    if network.config is None:
        return None
    save_checkpoint(out / "best.safetensors", network, space, {"attend": facts})
    return out / "best.safetensors"
