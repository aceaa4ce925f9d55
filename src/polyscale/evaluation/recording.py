"""Files of an evaluation for a report: integer counts, a picture of every image, and all maps of a few.

A folder then holds ``recording.json`` (names and how to read the rest), ``counts.npz`` (integers only), ``thumbnails/``
and ``gallery/``. A report is rendered from these files alone; none of them is needed to read the scores.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polyscale.attention import AttentionOverViews
from polyscale.errors import UserError
from polyscale.evaluation.counts import BOUNDARY_WIDTHS, CONFIDENT, TEMPERATURES, Counts, Seen, sampled
from polyscale.evaluation.gallery import Gallery, are_few, remove, write_image, write_thumbnail
from polyscale.evaluation.rows import AVERAGE_PROBABILITIES, FUSED, ORACLE, rival_row, scale_row
from polyscale.files import check_folder, write_atomically
from polyscale.labels import LabelSpace
from polyscale.metrics import BORDER_BINS, FIXED_POINT, THICKNESS_BINS, top_class
from polyscale.multiscale import MultiScale, View
from polyscale.processes import rank_and_world, wait_for_all

__all__ = ["FORMAT", "Recording", "fusion_of", "seen"]

FORMAT = "polyscale-recording 2"

SMALL = 12
"""Images whose logits are kept unasked."""

Array = np.ndarray[Any, Any]


def seen(scores: Tensor, probabilities: bool) -> Seen:
    """The best class of each pixel, its probability at the ``sampled`` ones; from logits or probabilities (C, H, W)."""
    best, classes = top_class(scores)
    if probabilities:
        return Seen(classes, sampled(best))
    some = sampled(scores).float()
    return Seen(classes, 1 / (some - some.amax(0)).exp_().sum(0))


def fusion_of(model: MultiScale) -> str:
    """Facts that a page needs to fuse as the network does.

    Returns:
        "exact" or "fast", as in ``multiscale``; "apart" where attention and logits are enlarged each by itself and
        multiplied then, as ``attention`` does.
    """
    if isinstance(model, AttentionOverViews):
        return "apart"
    return "fast" if getattr(model, "fast", False) else "exact"


class Recording:
    """Fed with one image after the other by ``evaluate``; every process has its own, and the first one writes.

    Args:
        folder: of the results; what an earlier recording wrote there is removed.
        gallery: how many images to store in full; None stores all.
        logits: also store each view's logits and attention of the images stored in full (8 bits, on the network's
            grid), from which a page fuses anew. None does so where the gallery is small and the logits are few.

    Raises:
        UserError: the folder cannot be written, or holds other files under the recording's names.
    """

    def __init__(self, folder: str | Path, gallery: int | None = 12, logits: bool | None = None) -> None:
        self.folder = Path(folder)
        self.with_logits = logits if logits is not None or (gallery is not None and gallery <= SMALL) else False
        self._gallery = Gallery(gallery)
        self._images: dict[int, dict[str, Any]] = {}
        self._scores: dict[int, tuple[float | None, float | None]] = {}
        check_folder(self.folder)

    def start(
        self,
        space: LabelSpace,
        rows: Sequence[str],
        scales: Sequence[float],
        method: str,
        fusion: str,
        weighted: Sequence[float] = (),
    ) -> None:
        """Name what will be counted; every process calls this before its first image.

        Args:
            space: the classes.
            rows: of the evaluation, the network's own first.
            scales: all that are looked at, of which ``rows`` has each alone or none.
            method: how the network combines scales.
            fusion: how it fuses; see ``fusion_of``.
            weighted: scales whose weight is given with each image.
        """
        self._scales = tuple(sorted(scales))
        single = [scale_row(scale) for scale in self._scales]
        self._single = single if len(single) > 1 and set(single) <= set(rows) else []
        names = (*rows, *([ORACLE] if self._single else []))
        rival = rival_row(method, rows)
        self.counts = Counts(space.num_classes, names, rival, sorted(weighted))
        self._about = {
            "format": FORMAT,
            "complete": False,
            "classes": list(space.names),
            "colors": [list(item.color) for item in space.classes],
            "rows": list(names),
            "rival": rival,
            "scales": list(self._scales),
            "weighted_scales": sorted(weighted),
            "method": method,
            "fusion": fusion,
            "thickness": list(THICKNESS_BINS),
            "border": list(BORDER_BINS),
            "boundary_widths": list(BOUNDARY_WIDTHS),
            "temperatures": list(TEMPERATURES),
            "confident": CONFIDENT,
            "fixed_point": FIXED_POINT,
        }
        if rank_and_world()[0] == 0:
            self._clear()
            self._describe(self._about)
        wait_for_all()

    def add(
        self,
        index: int,
        name: str,
        image: Array,
        labels: Tensor,
        rows: Mapping[str, Seen],
        weights: Mapping[float, Tensor] | None = None,
        probabilities: Tensor | None = None,
        views: Mapping[float, View] | None = None,
    ) -> None:
        """Record one image.

        Args:
            index: of the image in the data set.
            name: of the image.
            image: (H, W, 3) uint8 RGB.
            labels: (H, W) uint8, train ids or ``IGNORE``.
            rows: every row named at the start -> what it says.
            weights: scale -> (1, 1, H, W).
            probabilities: (C, H, W) of the network's own result.
            views: scale -> view on its own grid, for the stored logits.
        """
        rows = dict(rows)
        if self._single:
            right = torch.stack([rows[row].classes == labels for row in self._single]).any(0)
            rows[ORACLE] = Seen(torch.where(right, labels, rows[FUSED].classes))
        confusion = self.counts.add(index, labels, rows, weights, probabilities)
        score = image_iou(confusion[0])
        rival = self.counts.rival
        other = None if rival is None else image_iou(confusion[self.counts.rows.index(rival)])
        gain = score - other if score is not None and other is not None else None
        thumbnail = f"thumbnails/{index:06d}.jpg"
        write_thumbnail(self.folder / thumbnail, image, rows[FUSED].classes, labels)
        entry: dict[str, Any] = {"name": name, "size": list(labels.shape), "thumbnail": thumbnail, "gallery": None}
        keep, dropped = self._gallery.offer(index, score, gain)
        self._images[index], self._scores[index] = entry, (score, gain)
        if keep:
            place = f"gallery/{index:06d}"
            maps = {scale_name(row): rows[row] for row in (FUSED, *self._single)}
            if rival == AVERAGE_PROBABILITIES:
                maps["average"] = rows[rival]
            few = self.with_logits is None and are_few(views or {}, labels.shape)
            stored = views if self.with_logits or few else None
            about = write_image(self.folder / place, image, labels, maps, weights, stored)
            entry["gallery"] = {"folder": place, **about}
        self._drop(dropped)

    def finish(self) -> None:
        """Write the counts of all processes; every one calls this after its last image."""
        rank, world = rank_and_world()
        parts = [self.folder / f"part-{other}" for other in range(world)]
        if rank:
            _save_arrays(parts[rank].with_suffix(".npz"), self.counts.arrays())
            text = json.dumps({"images": self._images, "scores": self._scores})
            with write_atomically(parts[rank].with_suffix(".json")) as temporary:
                temporary.write_text(text, encoding="utf-8")
        wait_for_all()
        if rank == 0:
            for part in parts[1:]:
                self._merge(part)
            _save_arrays(self.folder / "counts.npz", self.counts.arrays())
            images = [self._images[index] for index in sorted(self._images)]
            self._describe({**self._about, "complete": True, "images": images})
        wait_for_all()

    def _merge(self, part: Path) -> None:
        with np.load(part.with_suffix(".npz"), allow_pickle=False) as arrays:
            self.counts.merge(dict(arrays))
        other = json.loads(part.with_suffix(".json").read_text(encoding="utf-8"))
        self._images |= {int(index): entry for index, entry in other["images"].items()}
        for index, (score, gain) in sorted((int(key), value) for key, value in other["scores"].items()):
            keep, dropped = self._gallery.offer(index, score, gain)
            self._drop(dropped if keep else [*dropped, index])
        for suffix in (".npz", ".json"):
            part.with_suffix(suffix).unlink()

    def _drop(self, indices: Sequence[int]) -> None:
        for index in indices:
            self._images[index]["gallery"] = None
            remove(self.folder / f"gallery/{index:06d}")

    def _clear(self) -> None:
        """Remove what an earlier recording wrote."""
        names = ("gallery", "thumbnails")
        if (self.folder / "recording.json").is_file():
            for name in names:
                shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / "counts.npz").unlink(missing_ok=True)
        for name in names:
            if (self.folder / name).exists():
                raise UserError(f"{self.folder / name} was written by no evaluation; choose another folder")

    def _describe(self, about: dict[str, Any]) -> None:
        with write_atomically(self.folder / "recording.json") as temporary:
            temporary.write_text(json.dumps(about, ensure_ascii=False, indent=1), encoding="utf-8")


def image_iou(confusion: Array) -> float | None:
    """MIoU of one image over the classes that are in its truth or its prediction, from (C, C) counts."""
    right = np.diagonal(confusion).astype(float)
    union = confusion.sum(0) + confusion.sum(1) - right
    return float((right[union > 0] / union[union > 0]).mean()) if (union > 0).any() else None


def scale_name(row: str) -> str:
    """A row's name in files: "scale 0.5" is "scale-0.5"."""
    return row.replace(" ", "-")


def _save_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    with write_atomically(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
