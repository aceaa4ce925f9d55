"""Shows images to a network: the one file for scales, mirror images, precision, device and memory.

Prediction, evaluation and auto-labelling stand on it. Another back-end attaches here as a ``MultiScale`` of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from polyscale.adaptive import AdaptiveMultiScale
from polyscale.errors import UserError
from polyscale.models.prepare import prepare_for_use
from polyscale.multiscale import MultiScale
from polyscale.strips import classify
from polyscale.views import Fused, Look, View, at_input_sizes, look

__all__ = ["Classified", "Looked", "Looker", "Precision", "choose_device", "not_finite", "see", "weights_of"]

Precision = Literal["float32", "bfloat16"]
Result = TypeVar("Result")


class Looked(NamedTuple):
    """A network's output for a batch."""

    probabilities: Tensor
    """(N, C, H, W) float32 in [0, 1]."""
    weights: dict[float, Tensor]
    """Scale -> how much it counts in the class chosen, (N, H, W) float32, finest first."""


class Classified(NamedTuple):
    """A network's output for a batch, without the probabilities of all classes."""

    labels: Tensor
    """The most probable class, (N, H, W) uint8."""
    confidence: Tensor
    """Its probability, (N, H, W) float32."""
    weights: dict[float, Tensor]
    """Scale -> how much it counts in the class chosen, (N, H, W) float32, finest first."""


class Looker:
    """A network on a device, in evaluation mode.

    It keeps no state between calls, so one may serve several threads. What it looks with is a copy that was made ready
    for use: batch norms are folded into the convolutions before them, which changes results by rounding.

    Args:
        model: the network; it is moved to the device and put into evaluation mode.
        device: "cpu", "cuda", "cuda:1", "mps"; by default the first GPU where there is one.
        precision: "bfloat16" runs the network in mixed precision; fusion and probabilities stay float32.
        prepare: False looks with the network as it is, to the last bit.
        autocast: another type to compute in, in place of ``precision``.
        adaptive: show the finest scale only where the others are less sure than this; see ``AdaptiveMultiScale``.

    Raises:
        UserError: this machine does not have the device, or the network cannot look adaptively.
    """

    def __init__(
        self,
        model: MultiScale,
        device: str | torch.device | None = None,
        precision: Precision = "float32",
        prepare: bool = True,
        autocast: torch.dtype | None = None,
        adaptive: float | None = None,
    ) -> None:
        if precision not in ("float32", "bfloat16"):
            raise UserError(f"unknown precision {precision!r}; choose float32 or bfloat16")
        self.device = choose_device(device)
        self.model = model.to(self.device).eval()
        norms = any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
        self._ready = prepare_for_use(self.model) if prepare and norms else self.model
        if adaptive is not None:
            self.model, self._ready = (AdaptiveMultiScale(model, adaptive) for model in (self.model, self._ready))
        self.precision = precision
        self._autocast = torch.bfloat16 if precision == "bfloat16" else autocast

    def choose(self, scales: Sequence[float] | None = None) -> tuple[float, ...]:
        """The scales to look at, finest first: those asked for, or the network's own.

        Raises:
            UserError: not positive, without 1, or not what the network can take.
        """
        try:
            return self.model.choose(scales)
        except ValueError as error:
            raise UserError(str(error)) from None

    @torch.inference_mode()
    def look(self, images: Tensor, scales: Sequence[float] | None = None, flip: bool = False) -> Looked:
        """Classes of images of one size.

        A batch that does not fit into memory is looked at in halves.

        Args:
            images: (N, 3, H, W), RGB in [0, 1], on any device.
            scales: as for ``choose``.
            flip: also look at the mirrored images, and average both.

        Raises:
            UserError: scales that the network cannot take, one image that does not fit into memory, or a result that is
                not finite.
        """
        parts = self._in_parts(self._look, images, self.choose(scales), flip)
        return Looked(torch.cat([part.probabilities for part in parts]), _joined([part.weights for part in parts]))

    @torch.inference_mode()
    def classify(self, images: Tensor, scales: Sequence[float] | None = None, flip: bool = False) -> Classified:
        """``look`` for the most probable classes only: quicker, and without maps of all classes at full size.

        An average over scales is taken of views that are enlarged once, rather than to their input's size first.
        """
        parts = self._in_parts(self._classify, images, self.choose(scales), flip)
        return Classified(
            torch.cat([part.labels for part in parts]),
            torch.cat([part.confidence for part in parts]),
            _joined([part.weights for part in parts]),
        )

    def _in_parts(
        self,
        work: Callable[[Tensor, tuple[float, ...], bool], Result],
        images: Tensor,
        scales: tuple[float, ...],
        flip: bool,
    ) -> list[Result]:
        try:
            return [work(images, scales, flip)]
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "allocate memory" not in str(error):
                raise
            if len(images) == 1:
                listed = ", ".join(f"{scale:g}" for scale in sorted(scales))
                raise UserError(
                    f"an image of {images.shape[3]} x {images.shape[2]} pixels at scales {listed} does not fit into "
                    "memory; look at it in tiles (--tile 1024), or use fewer or smaller scales"
                ) from None
        return [part for half in images.chunk(2) for part in self._in_parts(work, half, scales, flip)]

    def _look(self, images: Tensor, scales: tuple[float, ...], flip: bool) -> Looked:
        result = self._pass(images, scales)
        if not flip:
            return result
        mirrored = self._pass(images.flip(3), scales)
        return Looked(
            (result.probabilities + mirrored.probabilities.flip(3)) / 2,
            {scale: (weight + mirrored.weights[scale].flip(2)) / 2 for scale, weight in result.weights.items()},
        )

    def _pass(self, images: Tensor, scales: Sequence[float]) -> Looked:
        fused = self.see(images, scales)
        probabilities = fused.logits.softmax(1)
        weights = weights_of(self.model, fused, images.shape[-2:])
        return Looked(probabilities, {scale: weight[:, 0] for scale, weight in weights.items()})

    def _classify(self, images: Tensor, scales: tuple[float, ...], flip: bool) -> Classified:
        images, size = images.to(self.device), images.shape[-2:]
        maps, views = self.maps(images, scales)
        mirrored: dict[float, View] = {}
        if flip:
            others, mirrored = self.maps(images.flip(3), scales)
            maps += [logits.flip(3) for logits in others]
        labels, confidence = classify(maps, size)
        if not confidence.amax().isfinite():
            raise not_finite()
        chosen = labels[:, None]
        weights = {scale: weight[:, 0] for scale, weight in _weights(self.model, views, size, chosen).items()}
        if flip:
            there = _weights(self.model, mirrored, size, chosen.flip(3))
            weights = {scale: (weight + there[scale][:, 0].flip(2)) / 2 for scale, weight in weights.items()}
        return Classified(labels, confidence, weights)

    def maps(
        self, images: Tensor, scales: tuple[float, ...], look: Look | None = None
    ) -> tuple[list[Tensor], dict[float, View]]:
        """``MultiScale.maps`` of images on the device; ``look``: how each scale is shown, if not in the usual way."""
        how = {} if look is None else {"look": look}
        with torch.autocast(self.device.type, self._autocast, enabled=self._autocast is not None):
            return self._ready.maps(images, scales, **how)

    def view(self, images: Tensor, scale: float) -> View:
        """One scale alone of images on the device, on the segmenter's grid."""
        with torch.autocast(self.device.type, self._autocast, enabled=self._autocast is not None):
            return look(self._ready.segmenter, images, scale, grid=True)

    def see(self, images: Tensor, scales: Sequence[float], others: Sequence[float] = ()) -> Fused:
        """One look: the network's own result and every view, as fusion left it.

        Args:
            images: (N, 3, H, W), RGB in [0, 1], on any device.
            scales: of the result, as ``choose`` gives them.
            others: more scales whose views are wanted; they do not count in the result.

        Returns:
            Logits (N, C, H, W) float32, and views without auxiliary logits and features.

        Raises:
            UserError: the result is not finite.
        """
        return see(self._ready, images.to(self.device), scales, others, self._autocast)


def see(
    model: MultiScale,
    images: Tensor,
    scales: Sequence[float],
    others: Sequence[float] = (),
    autocast: torch.dtype | None = None,
) -> Fused:
    """``Looker.see`` for a network that is on its device, in evaluation mode; ``autocast``: compute in that type."""
    with torch.autocast(images.device.type, autocast, enabled=autocast is not None):
        fused: Fused = model(images, scales)
        views = dict(fused.views)
        for scale in others:
            if scale not in views:
                views[scale] = look(model.segmenter, images, scale)
    logits = fused.logits.float()
    if not logits.amax().isfinite():
        raise not_finite()
    return Fused(logits, None, {scale: View(view.logits, view.attention) for scale, view in views.items()})


def weights_of(model: MultiScale, fused: Fused, size: Sequence[int]) -> dict[float, Tensor]:
    """How much each scale counts in the class chosen: scale -> (N, 1, H, W) float32, finest first.

    Args:
        model: the network that gave ``fused``.
        fused: its logits and views.
        size: (H, W) of the image.
    """
    return _weights(model, fused.views, size, fused.logits)


def _weights(
    model: MultiScale, views: Mapping[float, View], size: Sequence[int], result: Tensor
) -> dict[float, Tensor]:
    """``weights_of`` views; ``result``: classes (N, 1, H, W), or logits (N, C, H, W)."""
    # Of the logits only the size is needed, so one channel of them is enlarged where fusion left a smaller grid.
    views = {scale: View(view.logits[:, :1], view.attention) for scale, view in views.items()}
    weights = model.weights(at_input_sizes(views, size))
    if any(weight.shape[1] > 1 for weight in weights.values()):
        # ``argmax``, since an exported graph of any batch has no loop over its images.
        chosen = result.argmax(1, keepdim=True) if result.is_floating_point() else result.long()
        weights = {s: w if w.shape[1] == 1 else w.gather(1, chosen) for s, w in weights.items()}
    return weights


def _joined(weights: Sequence[dict[float, Tensor]]) -> dict[float, Tensor]:
    return {scale: torch.cat([part[scale] for part in weights]) for scale in weights[0]}


def not_finite() -> UserError:
    """Message for a result that is not finite."""
    return UserError(
        "the network's output is not finite: its training diverged, the checkpoint is damaged or fp16 overflowed; "
        "try an earlier checkpoint, bf16 or fp32"
    )


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
