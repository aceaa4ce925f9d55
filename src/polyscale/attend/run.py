"""From a trained network to one that knows which scale to trust: look, learn, judge, write."""

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from polyscale.attend.config import AttendConfig
from polyscale.attend.judge import Judgement, judge
from polyscale.attend.learn import learn
from polyscale.attend.views import CachedViews
from polyscale.attention import AttentionOverViews
from polyscale.data.items import Item, Sample, SegmentationData
from polyscale.errors import UserError
from polyscale.evaluation.checks import check_classes
from polyscale.files import check_folder, locked, write_atomically
from polyscale.labels import LabelSpace
from polyscale.looker import choose_device
from polyscale.models import AttentionConfig, ModelConfig, MultiScaleConfig, build_model, save_checkpoint
from polyscale.models.checkpoint import Checkpoint
from polyscale.multiscale import MultiScale
from polyscale.processes import joined, local_device, wait_for_all

__all__ = ["AttendResult", "attend_network", "with_attention"]

Work = Callable[[str, int, int], None]
"""Told of progress: what is being done, how much of it is done, and of how much."""


@dataclass(frozen=True)
class AttendResult:
    """How it ended."""

    best: Path
    """The network to use: with the attention where it beats averaging, else the average of the same scales."""
    judgement: Judgement
    seconds: float


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

    Four blocks of neighbours are held out, not single images: the frames of a video resemble their neighbours.

    Raises:
        UserError: fewer than eight images.
    """
    number = len(data)
    if number < 8:
        raise UserError(f"{number} images are too few to hold some of them out; give at least 8, or validation images")
    block = max(1, round(number * fraction / 4))
    starts = [round((k + 0.5) * number / 4 - block / 2) for k in range(4)]
    held = sorted({index for start in starts for index in range(max(0, start), min(number, start + block))})
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

    The network is frozen, its batch norms too. Each image is looked at once and kept on disk. A run that was killed
    goes on with what was kept. Under ``torchrun`` all processes look, and the first one learns.

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
    working: Work = progress or (lambda *_: None)
    with joined() as (rank, world), contextlib.ExitStack() as stack:
        if rank == 0:
            stack.enter_context(locked(out / ".lock", f"another run is writing into {out}; choose another --out"))
        place = choose_device(local_device(None if device is None else str(device)))
        torch.manual_seed(config.seed)
        model = with_attention(checkpoint, config).to(place).eval().requires_grad_(False)
        cache = out / "views" / _fingerprint(model, config, train_data, held_out)
        space = config.cache_gigabytes * 1e9 / world
        # Validation images first: without them there is no judgement.
        judged = CachedViews(model, held_out, config, cache / "held-out", space)
        taught = CachedViews(model, train_data, config, cache / "train", space)
        todo = [(judged, index, 0) for index in range(len(judged))]
        todo += [(taught, index, variant) for index in range(len(taught)) for variant in range(config.variants)]
        for number, (views, index, variant) in enumerate(todo):
            if number % world == rank:
                views.look_ahead(index, variant)
                working("looking at images", number + 1, len(todo))
        wait_for_all()
        if rank:
            raise SystemExit(0)
        learn(model, taught, config, lambda done, total: working("learning attention", done, total))
        judgement = judge(model, judged, lambda done, total: working("judging", done, total))
        best = _write(out, model, checkpoint, config, judgement)
        shutil.rmtree(out / "views", ignore_errors=True)
    return AttendResult(best, judgement, time.perf_counter() - started)


def with_attention(checkpoint: Checkpoint, config: AttendConfig) -> AttentionOverViews:
    """The checkpoint's segmenter with a new attention over views, which starts as the average."""
    settings = MultiScaleConfig(
        method="hierarchical",
        train_scales=config.scales,
        eval_scales=config.scales,
        attention=AttentionConfig(channels=config.channels, reads=config.reads, maps=config.maps),
    )
    network = build_model(_renewed(checkpoint.config, settings), checkpoint.label_space)
    assert isinstance(network, AttentionOverViews)
    _take(network, checkpoint.model)
    return network


def _renewed(config: ModelConfig, settings: MultiScaleConfig) -> ModelConfig:
    backbone = config.backbone.model_copy(update={"pretrained": False})
    return config.model_copy(update={"multiscale": settings, "backbone": backbone})


def _take(network: MultiScale, origin: MultiScale) -> None:
    """Give a network the segmenter of another one, without its attention head."""
    theirs = origin.segmenter.state_dict()
    own = network.segmenter.state_dict()
    network.segmenter.load_state_dict({name: theirs[name] for name in own})


def _fingerprint(
    model: MultiScale, config: AttendConfig, train_data: SegmentationData, held_out: SegmentationData
) -> str:
    """Names what the cached views depend on; another network, data set or setting has another name."""
    digest = hashlib.sha256()
    for name, value in model.segmenter.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    digest.update(repr((config.scales, config.reads, config.seed)).encode())
    for data in (train_data, held_out):
        digest.update(repr([(item.name, str(item.image)) for item in data.items]).encode())
    return digest.hexdigest()[:16]


def _write(
    out: Path, model: AttentionOverViews, checkpoint: Checkpoint, config: AttendConfig, judgement: Judgement
) -> Path:
    facts: dict[str, Any] = {"settings": config.model_dump(mode="json"), "judgement": judgement.to_json()}
    kept: MultiScale = model
    if not judgement.keep:
        settings = MultiScaleConfig(method="average", eval_scales=config.scales)
        kept = build_model(_renewed(checkpoint.config, settings), checkpoint.label_space)
        _take(kept, model)
    save_checkpoint(out / "best.safetensors", kept, checkpoint.label_space, {"attend": facts})
    with write_atomically(out / "attend.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return out / "best.safetensors"
