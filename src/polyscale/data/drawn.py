"""Drawn streets as a data set: scenes are drawn when they are read, and no file exists."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from polyscale.data.items import Item, Sample, SegmentationData
from polyscale.data.kind import DataSetConfig
from polyscale.labels import LabelSpace

__all__ = ["StreetsConfig", "StreetsData"]

_SPLITS = ("train", "val", "test")


class StreetsConfig(DataSetConfig):
    """Drawn streets, drawn when they are read."""

    has_files: ClassVar[bool] = False

    kind: Literal["streets"] = "streets"
    split: Literal["train", "val", "test"] = "train"
    """Scenes of different splits are never the same."""
    count: int = Field(default=200, ge=1, le=1_000_000)
    """Number of scenes."""
    size: tuple[int, int] = (256, 512)
    """Height and width in pixels."""
    seed: int = Field(default=0, ge=0)
    """Another seed draws other streets."""

    def open(self, label_space: LabelSpace | None = None, lenient: bool = False) -> "StreetsData":
        """The scenes of the split; their label space is their own."""
        del label_space, lenient
        return StreetsData(self)


class StreetsData(SegmentationData):
    """Drawn streets as a data set; nothing is kept, and no file exists at the items' paths."""

    def __init__(self, config: StreetsConfig) -> None:
        # Imported here because most who read folders never draw.
        from polyscale.data.streets import STREETS, StreetsSource, split_starts

        start = split_starts(dict.fromkeys(_SPLITS, 0))[config.split]
        self._source = StreetsSource(config.seed, config.count, config.size, start)
        self.label_space = STREETS
        folder = Path("streets") / config.split
        self.items = tuple(
            Item(name, folder / "images" / f"{name}.png", folder / "masks" / f"{name}.png")
            for name in self._source.names
        )

    def read(self, index: int) -> Sample:
        """Draw one scene."""
        name, image, labels = self._source.read(index)
        return Sample(name, image, np.asarray(labels, dtype=np.uint8))
