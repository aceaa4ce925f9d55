"""Predicts labels, probabilities and the weight of each scale for an image of any kind and size."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from polyscale.config import validate
from polyscale.data.bands import BandsConfig, as_rgb, read_bands
from polyscale.data.images import read_image, to_rgb
from polyscale.errors import UserError
from polyscale.inference.prediction import Prediction
from polyscale.labels import LabelSpace
from polyscale.looker import Looker, Precision
from polyscale.multiscale import MultiScale
from polyscale.tiles import ArrayPixels, Tiles, classify_in_tiles

__all__ = ["ImageLike", "Prediction", "Predictor", "load"]

Array = np.ndarray[Any, np.dtype[np.uint8]]
ImageLike = str | Path | Image.Image | np.ndarray[Any, Any] | Tensor
"""A file, a Pillow image, a uint8 array (H, W, 3) or (H, W), or a tensor (3, H, W): float in [0, 1] or uint8; RGB."""


def load(
    path: str | Path,
    device: str | torch.device | None = None,
    precision: Precision = "float32",
    trust: Collection[str] = (),
    adaptive: float | None = None,
) -> "Predictor":
    """Load a checkpoint for prediction.

    Args:
        path: a ``.safetensors`` file that training wrote, a run's folder, a network by name, ``hf://user/name``, or an
            ``.onnx`` file of ``polyscale export``.
        device: "cpu", "cuda", "cuda:1", "mps"; by default the first GPU where there is one.
        precision: "bfloat16" runs the network in mixed precision (faster on recent GPUs); fusion and probabilities
            stay float32.
        trust: import paths of decoders and backbones outside Polyscale that a checkpoint may name.
        adaptive: a probability, such as 0.7: show the finest scale only those parts of an image where the other scales
            are less sure than this. Quicker, at nearly the same scores.

    Raises:
        UserError: no such file, not a checkpoint, a device that this machine does not have, or a network that cannot
            look adaptively.
    """
    from polyscale.models.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path, trust=trust)
    bands = checkpoint.info.get("bands")
    read = None if bands is None else validate(BandsConfig, bands)
    return Predictor(checkpoint.model, checkpoint.label_space, device, precision, adaptive, read, checkpoint.info)


class Predictor:
    """A network in use.

    It keeps no state between calls, so one may serve several threads.

    Args:
        model: as ``polyscale.models.build_model`` makes it, or a ``MultiScale`` of your own.
        label_space: of its classes.
        device: as for ``load``.
        precision: as for ``load``.
        adaptive: as for ``load``.
        bands: how files are read for a network of other channels than RGB.
        info: facts of its training, as in a checkpoint.

    Raises:
        UserError: this machine does not have the device, or the network cannot look adaptively.
    """

    def __init__(
        self,
        model: MultiScale,
        label_space: LabelSpace,
        device: str | torch.device | None = None,
        precision: Precision = "float32",
        adaptive: float | None = None,
        bands: BandsConfig | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        self.bands = bands
        self.looker = Looker(model, device, precision, adaptive=adaptive)
        self.label_space = label_space
        self.info: Mapping[str, Any] = dict(info or {})

    @property
    def model(self) -> MultiScale:
        """The network."""
        return self.looker.model

    @property
    def device(self) -> torch.device:
        """The device on which it computes."""
        return self.looker.device

    def save_pretrained(self, folder: str | Path, info: Mapping[str, Any] | None = None, *, half: bool = False) -> Path:
        """Write the network and a model card into a folder; see ``polyscale.save_pretrained``."""
        from polyscale.models.publishing import save_pretrained

        return save_pretrained(self, folder, info, half=half)

    def push_to_hub(
        self, repository: str, info: Mapping[str, Any] | None = None, *, private: bool = False, half: bool = False
    ) -> str:
        """Put the network on the Hugging Face Hub; see ``polyscale.push_to_hub``."""
        from polyscale.models.publishing import push_to_hub

        return push_to_hub(self, repository, info, private=private, half=half)

    def predict(
        self,
        image: ImageLike,
        scales: Sequence[float] | None = None,
        flip: bool = False,
        probabilities: bool = True,
        tile: int | None = None,
        overlap: int | None = None,
    ) -> Prediction:
        """Predict one image, at its own size whatever that is.

        Args:
            image: see ``ImageLike``. Grey, RGBA, CMYK and 16-bit images become RGB; EXIF rotation is applied.
            scales: the scales to look at, 1 among them; by default the network's ``eval_scales``.
            flip: also look at the mirrored image and average both results.
            probabilities: give those of all classes. Without them it is quicker, and a large image takes a fraction of
                the memory; averages over scales may differ by rounding.
            tile: look at an image that is larger in tiles of this side in pixels, which give no probabilities of all
                classes; then memory is needed for the result, not for the network's look at all of the image.
            overlap: pixels that neighbouring tiles share; by default an eighth.

        Raises:
            UserError: an image that cannot be read, scales that the network cannot take, too little memory for its
                size, or a network whose output is not finite.
        """
        if tile is None:
            return self.predict_batch([image], scales, flip, probabilities=probabilities)[0]
        tiles = Tiles(tile, tile // 8 if overlap is None else overlap)
        tiles.check()
        tensor, shown = self._as_tensor(image)
        if max(tensor.shape[1:]) <= tile:
            return self._predict([(tensor, shown)], self.looker.choose(scales), flip, probabilities)[0]
        if len(tensor) != 3:
            raise UserError(f"a network of {len(tensor)} channels looks at whole images only; leave out tile")
        return self._predict_in_tiles(shown, tiles, scales, flip)

    def _predict_in_tiles(
        self,
        image: np.ndarray[Any, np.dtype[np.uint8]],
        tiles: Tiles,
        scales: Sequence[float] | None,
        flip: bool,
    ) -> Prediction:
        found = classify_in_tiles(self.looker, ArrayPixels(image), tiles, scales, flip)
        return Prediction(
            labels=found.labels[0].numpy(),
            probabilities=None,
            confidence=found.confidence[0].numpy(),
            attention={scale: weight[0].numpy() for scale, weight in found.weights.items()},
            label_space=self.label_space,
            image=image,
        )

    def predict_batch(
        self,
        images: Iterable[ImageLike],
        scales: Sequence[float] | None = None,
        flip: bool = False,
        batch_size: int = 8,
        probabilities: bool = True,
    ) -> list[Prediction]:
        """Predict several images, in order; neighbours of one size go through the network together.

        Args:
            images: see ``ImageLike``; they may differ in size.
            scales: as for ``predict``.
            flip: as for ``predict``.
            batch_size: how many go through the network at once; halved where memory does not suffice.
            probabilities: as for ``predict``.
        """
        chosen = self.looker.choose(scales)
        predictions: list[Prediction] = []
        for _, group in groupby(map(self._as_tensor, images), key=lambda pair: pair[1].shape):
            alike = list(group)
            for first in range(0, len(alike), batch_size):
                predictions += self._predict(alike[first : first + batch_size], chosen, flip, probabilities)
        return predictions

    def _as_tensor(self, image: ImageLike) -> tuple[Tensor, Array]:
        channels = self.model.in_channels
        if channels == 3 and self.bands is None:
            return _as_tensor(image)
        if isinstance(image, str | Path):
            if self.bands is None:
                raise UserError(f"the network takes images of {channels} channels; give arrays (H, W, {channels})")
            image = read_bands(image, self.bands)
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (channels,):
            raise UserError(f"the network takes a file, or a uint8 array of shape (H, W, {channels})")
        return torch.tensor(image).permute(2, 0, 1).contiguous().float() / 255, as_rgb(image)

    def _predict(
        self,
        images: Sequence[tuple[Tensor, np.ndarray[Any, np.dtype[np.uint8]]]],
        scales: Sequence[float],
        flip: bool,
        wanted: bool,
    ) -> list[Prediction]:
        pixels = torch.stack([pixels for pixels, _ in images])
        probabilities = None
        if wanted:
            probabilities, weights = self.looker.look(pixels, scales, flip)
            confidence, labels = probabilities.max(dim=1)
        else:
            labels, confidence, weights = self.looker.classify(pixels, scales, flip)
        return [
            Prediction(
                labels=labels[k].to(torch.uint8).cpu().numpy(),
                probabilities=None if probabilities is None else probabilities[k].cpu().numpy(),
                confidence=confidence[k].cpu().numpy(),
                attention={scale: weight[k].cpu().numpy() for scale, weight in weights.items()},
                label_space=self.label_space,
                image=shown,
            )
            for k, (_, shown) in enumerate(images)
        ]


def _as_tensor(image: ImageLike) -> tuple[Tensor, np.ndarray[Any, np.dtype[np.uint8]]]:
    """The image as float (3, H, W) in [0, 1] and as uint8 (H, W, 3)."""
    if isinstance(image, Tensor):
        return _from_tensor(image)
    if isinstance(image, Image.Image):
        rgb = to_rgb(image)
    elif isinstance(image, np.ndarray):
        rgb = _from_array(image)
    elif isinstance(image, str | Path):
        rgb = read_image(image)
    else:
        raise UserError(
            "an image is a path, a Pillow image, an array (H, W, 3) or a tensor (3, H, W), not a "
            f"{type(image).__name__}"
        )
    return torch.from_numpy(rgb).permute(2, 0, 1).contiguous().float() / 255, rgb


def _from_array(image: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    grey = image.ndim == 2
    if image.dtype != np.uint8 or 0 in image.shape or not (grey or (image.ndim == 3 and image.shape[2] == 3)):
        raise UserError(
            f"an image array must be uint8 of shape (H, W, 3) or (H, W), got {image.dtype} {image.shape}; "
            "give other kinds as a Pillow image, or floats as a tensor (3, H, W) in [0, 1]"
        )
    # A copy: the prediction keeps the image, and the caller may reuse the buffer for the next frame.
    return np.repeat(image[..., None], 3, axis=2) if grey else np.array(image, order="C")


def _from_tensor(image: Tensor) -> tuple[Tensor, np.ndarray[Any, np.dtype[np.uint8]]]:
    known = image.is_floating_point() or image.dtype == torch.uint8
    if image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0 or not known:
        kind = str(image.dtype).removeprefix("torch.")
        raise UserError(f"an image tensor must be (3, H, W), float in [0, 1] or uint8, got {kind} {tuple(image.shape)}")
    pixels = image.detach().float()
    if image.dtype == torch.uint8:
        pixels = pixels / 255
    # Bicubic resizing and JPEG filters overshoot a little; images in 0..255 or already normalised are far outside.
    if not bool(((pixels >= -0.1) & (pixels <= 1.1)).all()):
        raise UserError(
            f"an image tensor of floats must lie in [0, 1], got {float(pixels.min()):g} to {float(pixels.max()):g}; "
            "the network normalises by itself"
        )
    shown = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
    return pixels, np.ascontiguousarray(shown.cpu().numpy())
