"""From an image of any kind and size to labels, probabilities and the attention of each scale.

Unusual here: a predictor keeps no state between calls, so one may serve several threads.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from polyscale.attention import at_input_sizes, effective_weights
from polyscale.data.images import read_image, to_rgb
from polyscale.errors import UserError
from polyscale.inference.prediction import Prediction
from polyscale.labels import LabelSpace
from polyscale.multiscale import Fused, View, check_scales

__all__ = ["ImageLike", "Precision", "Prediction", "Predictor", "choose_device", "load"]

ImageLike = str | Path | Image.Image | np.ndarray[Any, Any] | Tensor
"""A file, a Pillow image, a uint8 array (H, W, 3) or (H, W), or a tensor (3, H, W): float in [0, 1] or uint8; RGB."""

Precision = Literal["float32", "bfloat16"]


def load(path: str | Path, device: str | torch.device | None = None, precision: Precision = "float32") -> "Predictor":
    """Load a checkpoint for prediction.

    Args:
        path: a ``.safetensors`` file that training wrote.
        device: "cpu", "cuda", "cuda:1", "mps"; by default the first GPU where there is one.
        precision: "bfloat16" runs the network in mixed precision (faster on recent GPUs); fusion and probabilities
            stay float32.

    Raises:
        UserError: no such file, not a checkpoint, or a device that this machine does not have.
    """
    from polyscale.models.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    return Predictor(checkpoint.model, checkpoint.label_space, device, precision)


class Predictor:
    """A network in use.

    Args:
        model: as ``polyscale.models.build_model`` makes it: images (N, 3, H, W) in [0, 1] and scales to ``Fused``,
            with the attributes ``method`` and ``eval_scales``. It is moved to the device and put into evaluation
            mode.
        label_space: of its classes.
        device: as for ``load``.
        precision: as for ``load``.

    Raises:
        UserError: this machine does not have the device.
    """

    def __init__(
        self,
        model: nn.Module,
        label_space: LabelSpace,
        device: str | torch.device | None = None,
        precision: Precision = "float32",
    ) -> None:
        if precision not in ("float32", "bfloat16"):
            raise UserError(f"unknown precision {precision!r}; choose float32 or bfloat16")
        self.device = choose_device(device)
        self.model = model.to(self.device).eval()
        self.label_space = label_space
        self.precision = precision
        self.method = str(model.method)
        scales: Any = model.eval_scales
        self.eval_scales = check_scales(scales)

    def predict(self, image: ImageLike, scales: Sequence[float] | None = None, flip: bool = False) -> Prediction:
        """Predict one image, at its own size whatever that is.

        Args:
            image: see ``ImageLike``. Grey, RGBA, CMYK and 16-bit images become RGB; EXIF rotation is applied.
            scales: the scales to look at, 1 among them; by default the model's ``eval_scales``.
            flip: also look at the mirrored image and average both results.

        Raises:
            UserError: an image that cannot be read, scales that the model cannot take, too little memory for its
                size, or a network whose output is not finite.
        """
        chosen = self.check_scales(scales)
        pixels, shown = _as_tensor(image)
        try:
            probabilities, weights = self._look(pixels, chosen, flip)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "allocate memory" not in str(error):
                raise
            raise UserError(
                f"an image of {shown.shape[1]} x {shown.shape[0]} pixels at scales {_listed(chosen)} does not fit into "
                "memory; use fewer or smaller scales, or a smaller image"
            ) from None
        confidence, labels = probabilities.max(dim=0)
        if not bool(confidence.isfinite().all()):  # the maximum passes NaN on
            raise UserError(
                "the network's output is not finite: its training diverged or the checkpoint is damaged; "
                "try an earlier checkpoint"
            )
        return Prediction(
            labels=labels.to(torch.uint8).cpu().numpy(),
            probabilities=probabilities.cpu().numpy(),
            confidence=confidence.cpu().numpy(),
            attention={scale: weight.cpu().numpy() for scale, weight in weights.items()},
            label_space=self.label_space,
            image=shown,
        )

    def predict_batch(
        self, images: Iterable[ImageLike], scales: Sequence[float] | None = None, flip: bool = False
    ) -> list[Prediction]:
        """Predict several images, which may differ in size: each as ``predict`` does, one after the other."""
        return [self.predict(image, scales, flip) for image in images]

    def check_scales(self, scales: Sequence[float] | None) -> tuple[float, ...]:
        """The scales to look at, finest first: those asked for, or the model's own.

        Raises:
            UserError: not positive, without 1, or not what the model's method can take.
        """
        if scales is None:
            return self.eval_scales
        if not all(math.isfinite(scale) for scale in scales):
            raise UserError(f"scales must be positive numbers, got {list(scales)}; for example 0.5,1,2")
        try:
            chosen = check_scales(scales)
        except ValueError as error:
            raise UserError(str(error)) from None
        if self.method in ("single", "explicit") and chosen != self.eval_scales:
            raise UserError(
                f"this network combines scales by method {self.method!r}, bound to {_listed(self.eval_scales)}, "
                f"got {_listed(chosen)}; leave the scales out, or train with method hierarchical or average"
            )
        return chosen

    @torch.inference_mode()
    def _look(self, pixels: Tensor, scales: Sequence[float], flip: bool) -> tuple[Tensor, dict[float, Tensor]]:
        """Probabilities (C, H, W) and effective weights (H, W) of pixels (3, H, W)."""
        images = pixels[None].to(self.device)
        probabilities, weights = self._pass(images, scales)
        if flip:
            mirrored, mirrored_weights = self._pass(images.flip(3), scales)
            probabilities = (probabilities + mirrored.flip(3)) / 2
            weights = {scale: (weight + mirrored_weights[scale].flip(3)) / 2 for scale, weight in weights.items()}
        return probabilities[0], {scale: weight[0, 0] for scale, weight in weights.items()}

    def _pass(self, images: Tensor, scales: Sequence[float]) -> tuple[Tensor, dict[float, Tensor]]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            fused: Fused = self.model(images, scales)
        # Of the logits only the size is needed, so one channel of them is enlarged where fusion left a smaller grid.
        views = {scale: View(view.logits[:, :1], view.attention) for scale, view in fused.views.items()}
        weights = effective_weights(at_input_sizes(views, images.shape[-2:]), self.method)
        return fused.logits.float().softmax(dim=1), weights


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, or the first GPU where there is one, else the CPU.

    Raises:
        UserError: not the name of a device, or one that this machine does not have.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise UserError(f"unknown device {device!r}; choose cpu, cuda, cuda:1 (the second GPU) or mps") from None
    present = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (chosen.index or 0) >= present.get(chosen.type, 0):
        here = [name for name, number in present.items() if number]
        raise UserError(f"device {str(device)!r} is not on this machine; available: {', '.join(here)}")
    return chosen


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


def _listed(scales: Iterable[float]) -> str:
    return ", ".join(f"{scale:g}" for scale in scales)
