"""Evaluating a network: one pass over the images at their own size, and every score from it."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from polyscale.errors import UserError
from polyscale.evaluation.attention import AttentionTotals
from polyscale.evaluation.checks import check_channels, check_classes, check_items, choose_scales, no_mask
from polyscale.evaluation.instances import InstanceCounts
from polyscale.evaluation.one_pass import OnePass
from polyscale.evaluation.recording import Recording, fusion_of
from polyscale.evaluation.result import Evaluation
from polyscale.evaluation.rows import FUSED, row_names
from polyscale.labels import LabelSpace
from polyscale.metrics import SegmentationScores
from polyscale.multiscale import MultiScale
from polyscale.processes import largest_over_ranks, rank_and_world, sum_over_ranks
from polyscale.tiles import Tiles

if TYPE_CHECKING:
    from polyscale.data.items import Sample, SegmentationData

__all__ = ["evaluate", "read_ahead"]


class HasNetwork(Protocol):
    """An object with a network and its classes, such as a ``Predictor``."""

    @property
    def model(self) -> MultiScale:
        """The network."""

    @property
    def label_space(self) -> LabelSpace:
        """Its classes."""


def evaluate(
    model: "MultiScale | str | Path | HasNetwork",
    data: "SegmentationData | str | Path",
    scales: Sequence[float] | None = None,
    *,
    flip: bool = False,
    compare: bool = False,
    boundary: bool = True,
    calibration: bool = True,
    label_space: LabelSpace | None = None,
    device: torch.device | str | None = None,
    autocast: torch.dtype | None = None,
    details: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    recording: Recording | None = None,
    keep: Callable[[str, Tensor], None] | None = None,
    tiles: Tiles | None = None,
) -> Evaluation:
    """Score a network on a labelled data set, each image at its own size.

    Where ``torch.distributed`` is initialised each process scores its share of the images and all return the same
    result. Cityscapes with its instance ids also gets the benchmark's instance-weighted IoU.

    Args:
        model: the network; a ``Predictor``; or what stands for a checkpoint (a file, a run's folder, a name).
        data: items with masks; or the path of a data set, whose split val is taken where it has one.
        scales: 1 among them; by default the network's ``eval_scales``. With ``compare`` a network that looks at scale 1
            only may be given several; its own row keeps scale 1.
        flip: the network's own result is the mean of the probabilities of the image and of its mirrored pass.
        compare: also score each scale alone, the averages of probabilities and of logits and, where the method is
            hierarchical, constant attention, on the same views. They see no mirrored image, except the row that says
            so; with ``flip`` the network's own result without it is a row too, to compare with.
        boundary: measure boundary IoU (of every row).
        calibration: measure the expected calibration error (of the network's own result).
        label_space: the network's classes, which must be those of the data.
        device: where to compute, the model is moved there; by default where the model is.
        autocast: compute in this type (torch.bfloat16, torch.float16) where torch deems it safe.
        details: plain values to keep in the metadata, such as the checkpoint's name, the split, the pretraining.
        progress: called with (images done, images of this process) after each image.
        recording: also counts what a report needs, and writes it.
        keep: called with each image's name and the network's own classes, (H, W) train ids on the device.
        tiles: look at images that are larger than a tile in tiles; not with ``compare`` or ``recording``, which need
            the views of whole images.

    Raises:
        UserError: an image has no mask, the classes are not those of the data, the scales do not suit the method, the
            data set is empty, or the network's output is not finite.
    """
    started = time.perf_counter()
    if tiles is not None and (compare or recording is not None):
        raise UserError(
            "comparing scales and recording for a report need the views of whole images; leave these out, or --tile"
        )
    model, known = _network(model)
    label_space = label_space or known
    if isinstance(data, str | Path):
        from polyscale.data import list_splits, open_data

        data = open_data(data, "val" if "val" in list_splits(data) else None, label_space)
    space = data.label_space
    ordered, own = choose_scales(model, scales, compare)
    check_items(data)
    check_channels(model, data)
    if label_space is not None:
        check_classes(label_space, space)
    place = torch.device(device) if device is not None else next(model.parameters(), torch.zeros(())).device
    model.to(place)
    rows = {
        name: SegmentationScores(space, boundary=boundary, calibration=calibration and name == FUSED)
        for name in row_names(model.method, ordered, flip, compare)
    }
    instances = InstanceCounts.of(data)
    attention = AttentionTotals(space.names, own) if model.method not in ("single", "average") else None
    pass_over = OnePass(
        model,
        ordered if compare else own,
        own,
        flip,
        autocast,
        rows,
        attention,
        recording,
        tuple(filter(None, (keep, None if instances is None else instances.add))),
        tiles,
    )
    if recording is not None:
        weighted = own if attention is not None else ()
        recording.start(space, list(rows), pass_over.scales, model.method, fusion_of(model), weighted)

    rank, world = rank_and_world()
    indices = range(rank, len(data), world)
    sizes = [0, 0, -(2**31), -(2**31)]
    with _evaluating(model), torch.inference_mode():
        for done, (index, sample) in enumerate(zip(indices, read_ahead(data, indices), strict=True), start=1):
            images, labels = _to_tensors(sample, place)
            pass_over.score(sample, images, labels, index)
            height, width = labels.shape
            sizes = [max(pair) for pair in zip(sizes, (height, width, -height, -width), strict=True)]
            if progress is not None:
                progress(done, len(indices))

    if recording is not None:
        recording.finish()
    counted = torch.tensor([len(indices)])
    states = [state for scores in rows.values() for state in scores.state().values()]
    sum_over_ranks([counted, *states, *(attention.state().values() if attention is not None else ())], place)
    high, wide, low, narrow = largest_over_ranks(sizes, place)
    smallest, largest = f"{-low}x{-narrow}", f"{high}x{wide}"
    metadata = {
        **(details or {}),
        "label_space": space.name,
        "method": model.method,
        "scales": sorted(own),
        "compared_scales": sorted(ordered) if compare else None,
        "flip": flip,
        **({} if tiles is None else {"tile": tiles.tile, "overlap": tiles.overlap}),
        "num_images": int(counted),
        "image_size": largest if smallest == largest else f"{smallest} to {largest}",
        "boundary_fraction": rows[FUSED].boundary_fraction if boundary else None,
        "autocast": str(autocast).removeprefix("torch.") if autocast is not None else None,
        "device": place.type,
        "processes": world,
        "seconds": round(time.perf_counter() - started, 3),
    }
    computed = {name: scores.compute() for name, scores in rows.items()}
    confusion = rows[FUSED].state()["confusion"]
    return Evaluation(
        computed,
        attention.compute() if attention is not None else None,
        metadata,
        instances.compute(confusion, place) if instances is not None else None,
    )


def _network(model: MultiScale | str | Path | HasNetwork) -> tuple[MultiScale, LabelSpace | None]:
    """The network that is meant, and its classes where they are known."""
    if isinstance(model, MultiScale):
        return model, None
    if isinstance(model, str | Path):
        from polyscale.models.checkpoint import load_checkpoint

        checkpoint = load_checkpoint(model)
        return checkpoint.model, checkpoint.label_space
    return model.model, model.label_space


def read_ahead(data: "SegmentationData", indices: Sequence[int]) -> Iterator["Sample"]:
    """Samples in order, the next one read while this one is being scored."""
    with ThreadPoolExecutor(1) as pool:
        ready = None
        for index in indices:
            ahead = pool.submit(data.read, index)
            if ready is not None:
                yield ready.result()
            ready = ahead
        if ready is not None:
            yield ready.result()


def _to_tensors(sample: "Sample", device: torch.device) -> tuple[Tensor, Tensor]:
    """Image (1, 3, H, W) float32 in [0, 1] and labels (H, W) uint8."""
    if sample.labels is None:
        raise no_mask(sample.name)
    image = torch.tensor(sample.image).to(device).permute(2, 0, 1)[None]
    return image.contiguous().float() / 255, torch.tensor(sample.labels).to(device)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards each module's own mode again: parts of a network in training may be frozen."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
