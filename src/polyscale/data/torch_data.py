"""A user's own data set in code: anything with a length that gives an image and a mask by number."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from PIL import Image
from pydantic import Field

from polyscale.config import import_path
from polyscale.data.images import to_rgb
from polyscale.data.items import DataError, Item, Sample, SegmentationData
from polyscale.data.kind import DataSetConfig
from polyscale.data.known_spaces import known_space, known_spaces
from polyscale.errors import UserError
from polyscale.labels import LabelSpace

__all__ = ["ImagesAndMasks", "TorchConfig", "TorchData", "image_of", "mask_of"]

Array = np.ndarray[Any, Any]


class ImagesAndMasks(Protocol):
    """Interface of a ``torch.utils.data.Dataset`` of pairs."""

    def __len__(self) -> int:
        """Number of pairs."""

    def __getitem__(self, index: int) -> Any:
        """A pair of image and mask."""


class TorchConfig(DataSetConfig):
    """A data set that a class in the user's own code gives."""

    has_files: ClassVar[bool] = False
    runs_code: ClassVar[bool] = True

    kind: Literal["torch"] = "torch"
    dataset: str
    """``package.module:Name`` of a subclass of ``torch.utils.data.Dataset`` whose items are pairs of image and mask, or
    of ``polyscale.data.SegmentationData``.
    """
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the class."""
    label_space: Path | None = None
    """YAML file of the label space, or the name of one that comes with the package. A ``SegmentationData`` has its own.
    """

    def open(self, label_space: LabelSpace | None = None, lenient: bool = False) -> SegmentationData:
        """Import the class and make the data set.

        Raises:
            UserError: there is no such class, it does not take the options, or the label space is missing.
        """
        del lenient
        from torch.utils.data import Dataset

        made = import_path(self.dataset)
        if not (isinstance(made, type) and issubclass(made, (Dataset, SegmentationData))):
            raise UserError(
                f"{self.dataset} is no subclass of torch.utils.data.Dataset or polyscale.data.SegmentationData"
            )
        try:
            dataset = made(**self.options)
        except TypeError as error:
            raise UserError(f"{self.dataset} cannot be made with these options: {error}") from None
        if isinstance(dataset, SegmentationData):
            return dataset
        if not hasattr(dataset, "__len__"):
            raise UserError(f"{self.dataset} has no __len__; a data set says how many items it has")
        space = label_space if self.label_space is None else _space(self.label_space)
        if space is None:
            raise UserError(f"data of {self.dataset} need a label_space: a YAML file, or {', '.join(known_spaces())}")
        return TorchData(dataset, space, made.__name__)


class TorchData(SegmentationData):
    """Pairs of image and mask as a data set.

    Args:
        dataset: has a length, and gives a pair by its number, 0 .. length - 1. The pair must always be the same: crops
            and colours are varied later. An image is a Pillow image, an array (H, W, 3) or (H, W), or a tensor
            (3, H, W) or (1, H, W); bytes, or floats from 0 to 1. A mask is a Pillow image, an array or a tensor (H, W)
            of data set ids.
        label_space: what the ids mean.
        name: begins the names of its items.

    Example:
        >>> pairs = [(np.zeros((4, 6, 3), np.uint8), np.ones((4, 6), np.int64))]
        >>> space = LabelSpace(classes=({"name": "a", "color": (0, 0, 0)}, {"name": "b", "color": (9, 9, 9)}))
        >>> int(TorchData(pairs, space).read(0).labels.max())
        1
    """

    def __init__(self, dataset: ImagesAndMasks, label_space: LabelSpace, name: str = "data") -> None:
        self._dataset = dataset
        self.label_space = label_space
        digits = len(str(max(len(dataset) - 1, 0)))
        names = [f"{name}_{index:0{digits}}" for index in range(len(dataset))]
        self.items = tuple(Item(text, Path(name) / "images" / text, Path(name) / "masks" / text) for text in names)

    def read(self, index: int) -> Sample:
        """Take one pair.

        Raises:
            UserError: it is no pair, an image or mask is of a kind that cannot be read, or their sizes differ.
        """
        name = self.items[index].name
        pair = self._dataset[index]
        if isinstance(pair, Mapping) or not hasattr(pair, "__len__") or len(pair) != 2:
            raise DataError(f"item {name} is no pair (image, mask); let __getitem__ return these two")
        try:
            image, ids = image_of(pair[0]), mask_of(pair[1])
            labels = self.label_space.encode(ids)
        except UserError as error:
            raise DataError(f"item {name}: {error}", "ids") from None
        if image.shape[:2] != labels.shape:
            (height, width), (high, wide) = image.shape[:2], labels.shape
            raise DataError(f"item {name}: the image is {width} x {height} pixels and its mask {wide} x {high}", "size")
        return Sample(name, image, labels)


def image_of(value: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An image as ``TorchData`` takes it, (H, W, 3) uint8 RGB.

    Raises:
        UserError: its shape or its range of values is another.
    """
    if isinstance(value, Image.Image):
        return to_rgb(value)
    pixels = np.asarray(value)
    if _is_tensor(value) and pixels.ndim == 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        wanted = "(3, H, W) or (1, H, W)" if _is_tensor(value) else "(H, W, 3) or (H, W)"
        raise UserError(f"an image of shape {tuple(np.shape(value))} is not {wanted}")
    if np.issubdtype(pixels.dtype, np.floating):
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise UserError(
                f"image values from {pixels.min():g} to {pixels.max():g} are not in 0 to 1; leave normalisation to the "
                "network"
            )
        pixels = np.rint(pixels * 255)
    elif pixels.dtype != np.uint8:
        raise UserError(f"an image of {pixels.dtype} has no fixed range; give bytes, or floats from 0 to 1")
    three = np.broadcast_to(pixels.astype(np.uint8), (*pixels.shape[:2], 3))
    return np.array(three)


def mask_of(value: Any) -> Array:
    """A mask as ``TorchData`` takes it, (H, W) of any type.

    Raises:
        UserError: its shape is another.
    """
    ids = np.asarray(value)
    if ids.ndim == 3 and 1 in (ids.shape[0], ids.shape[2]):
        ids = ids[0] if ids.shape[0] == 1 else ids[:, :, 0]
    if ids.ndim != 2:
        raise UserError(f"a mask of shape {ids.shape} is not (H, W)")
    return ids


def _is_tensor(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "torch"


def _space(path: Path) -> LabelSpace:
    return known_space(str(path)) if str(path) in known_spaces() else LabelSpace.from_yaml(path.expanduser())
