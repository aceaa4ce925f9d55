"""What a frozen network's views say of a few pixels of each image, kept on disk until the attention is learnt."""

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from polyscale.attending.config import AttendConfig
from polyscale.attention import AttentionOverViews
from polyscale.data.items import SegmentationData
from polyscale.errors import UserError
from polyscale.files import write_atomically
from polyscale.views import View, look

__all__ = ["CachedPixels", "Pixels", "grid_views"]


class Pixels(NamedTuple):
    """Labelled pixels, as a frozen network sees them. Each is an image of its own, of one pixel."""

    views: dict[float, View]
    """Scale -> view with logits (P, C, 1, 1)."""
    known: dict[float, Tensor]
    """Scale -> what ``AttentionOverViews.known`` gives, (P, D, 1, 1)."""
    labels: Tensor
    """(P, 1, 1) int64 train ids; none is ignored."""

    def part(self, index: Tensor, scales: tuple[float, ...], device: torch.device) -> "Pixels":
        """Some of the pixels at some of the scales, in float32 on a device."""
        views = {s: View(self.views[s].logits[index].to(device).float()) for s in scales}
        known = {s: self.known[s][index].to(device).float() for s in scales}
        return Pixels(views, known, self.labels[index].to(device))


class CachedPixels:
    """Pixels of a data set's images.

    Args:
        model: the network, on its device and in evaluation mode.
        data: images with labels.
        config: scales, pixels and space.
        folder: where they are kept, a file an image.
    """

    def __init__(self, model: AttentionOverViews, data: SegmentationData, config: AttendConfig, folder: Path) -> None:
        self.model, self.data, self.config, self.folder = model, data, config, folder

    def __len__(self) -> int:
        return len(self.data)

    def look_ahead(self, index: int) -> None:
        """Make sure that the pixels of one image are on disk.

        Raises:
            UserError: the image has no mask, or cannot be read.
        """
        path = self._path(index)
        if path.exists():
            try:
                load_file(path)
                return
            except (SafetensorError, OSError):
                path.unlink()  # a damaged file is made again
        tensors = self._look(index)
        with write_atomically(path) as temporary:
            save_file(tensors, temporary)

    def read(self) -> Pixels:
        """All of them.

        Raises:
            UserError: fewer than two pixels have a label.
        """
        files = [load_file(self._path(index)) for index in range(len(self))]
        tensors = {name: torch.cat([file[name] for file in files]) for name in files[0]}
        if len(tensors["labels"]) < 2:
            raise UserError("the training images have no labelled pixels to learn from")
        scales = self.config.scales
        views = {s: View(tensors[f"{s:g}"][..., None, None]) for s in scales}
        known = {s: tensors[f"{s:g} known"][..., None, None] for s in scales}
        return Pixels(views, known, tensors["labels"].long()[:, None, None])

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.safetensors"

    @torch.inference_mode()
    def _look(self, index: int) -> dict[str, Tensor]:
        sample = self.data.read(index)
        if sample.labels is None:
            raise UserError(f"image {sample.name!r} has no mask; attention is learnt from labelled images")
        labels = torch.from_numpy(sample.labels)
        views = grid_views(self.model, torch.from_numpy(sample.image), self.config.scales)
        known = self.model.known(views, labels.shape)
        width = sum(view.logits.shape[1] + known[scale].shape[1] for scale, view in views.items())
        most = int(self.config.cache_gigabytes * 1e9 / (2 * width + 1) / len(self))
        rows, columns = (labels < views[1.0].logits.shape[1]).nonzero(as_tuple=True)
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + index)
        chosen = torch.randperm(len(rows), generator=generator)[: max(1, min(self.config.pixels, most))]
        rows, columns = rows[chosen], columns[chosen]
        height, width = labels.shape
        # Centres of the pixels in [-1, 1].
        points = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)
        tensors = {"labels": labels[rows, columns].to(torch.uint8)}
        for scale, view in views.items():
            tensors[f"{scale:g}"] = _at(view.logits, points)
            tensors[f"{scale:g} known"] = _at(known[scale], points)
        return tensors


def grid_views(model: AttentionOverViews, image: Tensor, scales: tuple[float, ...]) -> dict[float, View]:
    """The frozen network's views of an image (H, W, 3) uint8, on the segmenter's grid."""
    device = next(model.parameters()).device
    batch = image.permute(2, 0, 1)[None].to(device).float() / 255
    return {s: look(model.segmenter, batch, s, model.reads_features, grid=True) for s in scales}


def _at(x: Tensor, points: Tensor) -> Tensor:
    """Values (P, D) of maps (1, D, h, w) at points (P, 2); half precision."""
    places = points[None, None].to(x.device)
    values = functional.grid_sample(x, places, mode="bilinear", padding_mode="border", align_corners=False)
    return values[0, :, 0].T.half().cpu().contiguous()
