"""The state behind the scores of a data set: a few integer tensors, the same in any order of the images.

The sums are kept on the CPU, wherever the images are.
"""

import torch
from torch import Tensor

from polyscale.labels import LabelSpace
from polyscale.metrics.boundary import boundary_counts
from polyscale.metrics.calibration import calibration_counts
from polyscale.metrics.confusion import confusion_matrix, top_class
from polyscale.metrics.scores import Scores

__all__ = ["SegmentationScores"]


class SegmentationScores:
    """Sums over images from which ``compute`` makes the data set's scores; merging is exact, in any order.

    Args:
        label_space: the classes.
        boundary: measure boundary IoU too.
        calibration: measure the expected calibration error too; then ``update`` needs probabilities.
        boundary_fraction: width of the boundary band as a fraction of the image diagonal.
        num_bins: confidence bins of the calibration error.

    Example:
        >>> space = LabelSpace.model_validate({"classes": [{"name": n, "color": (0, 0, 0)} for n in ("road", "sky")]})
        >>> scores = SegmentationScores(space, boundary=False, calibration=False)
        >>> scores.update(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 1]]))
        >>> scores.compute().iou
        (0.5, 0.5)
    """

    def __init__(
        self,
        label_space: LabelSpace,
        boundary: bool = True,
        calibration: bool = True,
        boundary_fraction: float = 0.02,
        num_bins: int = 15,
    ) -> None:
        self.label_space = label_space
        self.boundary_fraction = boundary_fraction
        self.num_bins = num_bins
        num_classes = label_space.num_classes
        self._confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self._boundary = torch.zeros(2, num_classes, dtype=torch.int64) if boundary else None
        self._calibration = torch.zeros(3, num_bins, dtype=torch.int64) if calibration else None

    def update(self, prediction: Tensor, labels: Tensor, confidence: Tensor | None = None) -> None:
        """Add one image, or a batch of them; the boundary is each image's own.

        Args:
            prediction: probabilities (C, H, W) or (N, C, H, W) in [0, 1]; or train ids (H, W) or (N, H, W), integers.
            labels: (H, W) or (N, H, W), train ids or ``IGNORE``.
            confidence: with train ids (H, W), the probability of each pixel's class; it stands for the probabilities.

        Raises:
            ValueError: shapes do not fit, ids lie outside the classes, or there are no probabilities to calibrate.
        """
        soft = prediction.is_floating_point()
        if (
            labels.ndim not in (2, 3)
            or prediction.ndim != labels.ndim + soft
            or prediction.shape[-2:] != labels.shape[-2:]
        ):
            raise ValueError(f"prediction {tuple(prediction.shape)} does not fit labels {tuple(labels.shape)}")
        if labels.ndim == 3:
            for image_prediction, image_labels in zip(prediction, labels, strict=True):
                self.update(image_prediction, image_labels)
            return
        num_classes = self.label_space.num_classes
        if soft and len(prediction) != num_classes:
            raise ValueError(
                f"probabilities have {len(prediction)} classes, label space {self.label_space.name!r} {num_classes}"
            )
        if self._calibration is not None and not soft and confidence is None:
            raise ValueError("calibration needs probabilities (C, H, W); give them, or switch calibration off")
        confidence, classes = top_class(prediction) if soft else (confidence, prediction)
        # Count all before adding any: an image that is refused leaves no trace.
        confusion = confusion_matrix(classes, labels, num_classes)
        if self._calibration is not None and confidence is not None:
            self._calibration += calibration_counts(confidence, classes, labels, self.num_bins).cpu()
        if self._boundary is not None:
            self._boundary += boundary_counts(classes, labels, num_classes, self.boundary_fraction).cpu()
        self._confusion += confusion.cpu()

    def state(self) -> dict[str, Tensor]:
        """The sums themselves, int64 on the CPU: adding them over processes, in place, merges the scores."""
        named = {"confusion": self._confusion, "boundary": self._boundary, "calibration": self._calibration}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def merge(self, other: "SegmentationScores") -> None:
        """Add what ``other`` has seen.

        Raises:
            ValueError: the two do not measure the same things in the same way.
        """
        if self._setting() != other._setting():
            raise ValueError(f"scores of {self._setting()} and of {other._setting()} cannot be merged")
        mine, theirs = self.state(), other.state()
        for name, tensor in mine.items():
            tensor += theirs[name]

    def compute(self) -> Scores:
        """The scores of everything seen so far."""
        return Scores.from_counts(self.label_space.names, self._confusion, self._boundary, self._calibration)

    def _setting(self) -> tuple[object, ...]:
        return (self.label_space.names, sorted(self.state()), self.boundary_fraction, self.num_bins)
