"""The interface of every kind of data set; ``open.py`` lists the kinds."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from polyscale.config import Config
from polyscale.data.items import SegmentationData
from polyscale.labels import LabelSpace

__all__ = ["DataSetConfig"]


class DataSetConfig(Config, ABC):
    """The configuration of a data set of one kind.

    A subclass is one module: it names its ``kind`` as a ``Literal`` with a default, and its other keys as fields.
    """

    has_files: ClassVar[bool] = True
    """Whether its images are files that another data set may name."""
    runs_code: ClassVar[bool] = False
    """Whether opening it runs code that the configuration names. A folder's own ``data.yaml`` may not."""

    kind: str

    @abstractmethod
    def open(self, label_space: LabelSpace | None = None, lenient: bool = False) -> SegmentationData:
        """Open the data set.

        Args:
            label_space: used where it has none of its own.
            lenient: list images that lack a required mask instead of raising, for a check that reports them all.

        Raises:
            UserError: files are missing or do not fit together.
        """

    def splits(self) -> tuple[str, ...]:
        """The splits that it offers; none where it is one set, or names its split itself."""
        return ()

    @classmethod
    def recognised(cls, folder: Path) -> "DataSetConfig | None":
        """The configuration for a folder in this kind's layout; None where the layout is another."""
        del folder
        return None
