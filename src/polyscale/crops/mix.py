"""Data that training draws from: one data set, or several as one, each with its share, weight and end.

The mix is one long list of items, source after source, whose names begin with their source's. Labels are brought to the
first source's train ids by the classes' names, so sources may differ in the order of classes and in their ids on disk,
but not in what the classes are. One data set is a mix of one, whose names stay as they are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyscale.crops.centroids import Centroids, class_centroids, join_centroids
from polyscale.crops.sampling import SourceShare
from polyscale.crops.sources import MixConfig, SourceConfig, SourceSettings, TrainDataConfig
from polyscale.data.confidence import ConfidenceMaps
from polyscale.data.folders import FolderConfig
from polyscale.data.items import Item, Sample, SegmentationData
from polyscale.data.open import open_data
from polyscale.errors import UserError
from polyscale.labels import LabelSpace

__all__ = ["TrainingData", "Weights", "open_training_data"]


class Weights(NamedTuple):
    """How much the pixels of one item count."""

    factor: float
    """Weight of all its pixels."""
    levels: NDArray[np.uint8] | None
    """(H, W) confidence levels; None where all pixels count alike."""
    table: NDArray[np.float32] | None
    """(K,) further factor of each level."""


@dataclass(frozen=True)
class _Source:
    name: str
    settings: SourceSettings
    data: SegmentationData
    start: int
    """Position of its first item in the mix."""
    ids: NDArray[np.uint8] | None
    """(256,) its train ids to those of the mix; None where they are the same."""
    maps: ConfidenceMaps | None


class TrainingData(SegmentationData):
    """One data set or several, with what training asks of them.

    Args:
        data: of each source by name. One alone keeps the names of its items, those of several become ``SOURCE/NAME``.
        mix: what the configuration says of the sources; None for one data set.

    Attributes:
        label_space: that of the first source.
        items: source after source.
        weighting: whether losses weigh nothing, images or pixels. It is a matter of the whole mix, as all processes
            must compute alike.
    """

    def __init__(self, data: dict[str, SegmentationData], mix: MixConfig | None = None) -> None:
        self.is_mix = mix is not None
        self.weighting: Literal["none", "image", "pixel"] = "none" if mix is None else mix.weighting
        self._balance = "equal" if mix is None else mix.balance
        settings: dict[str, SourceSettings] = {name: SourceSettings() for name in data}
        settings |= {} if mix is None else mix.sources
        first, reference = next(iter(data.items()))
        self.label_space = reference.label_space
        self.num_channels = reference.num_channels
        self._sources: list[_Source] = []
        items: list[Item] = []
        for name, part in data.items():
            ids = _translation(first, reference.label_space, name, part.label_space)
            maps = None if mix is None else _maps(name, mix.sources[name])
            self._sources.append(_Source(name, settings[name], part, len(items), ids, maps))
            items += (item._replace(name=f"{name}/{item.name}") for item in part.items) if mix else part.items
        self.items = tuple(items)

    @property
    def parts(self) -> dict[str, SegmentationData]:
        """The sources' own data by name."""
        return {source.name: source.data for source in self._sources}

    @property
    def shares(self) -> list[SourceShare]:
        """How the sources divide an epoch's draws."""
        reference = len(self._sources[0].data)
        shares = []
        for source in self._sources:
            chosen, size = source.settings, len(source.data)
            default = 1.0 if self._balance == "equal" else size / reference
            ratio = default if chosen.ratio is None else chosen.ratio
            shares.append(
                SourceShare(
                    source.name, size, ratio, chosen.until_epoch, chosen.plain, chosen.classes, dict(chosen.boost)
                )
            )
        return shares

    @property
    def epoch_length(self) -> int:
        """Draws in which, without class-uniform sampling, each image of the first source comes once."""
        ratios = [share.ratio for share in self.shares]
        return max(1, round(len(self._sources[0].data) * sum(ratios) / ratios[0]))

    @property
    def importance(self) -> NDArray[np.float64] | None:
        """How often each item is drawn, against those of the first source; (items,), without class-uniform sampling.

        None where all come equally often.
        """
        if len(self._sources) == 1:
            return None
        ratios = [share.ratio / share.num_items for share in self.shares]
        each = np.array([share.num_items for share in self.shares])
        return np.repeat(ratios, each) / ratios[0]

    def read(self, index: int) -> Sample:
        """Read one item; labels are train ids of the mix.

        Raises:
            UserError: as the source's own ``read``.
        """
        source = self._at(index)
        sample = source.data.read(index - source.start)
        return Sample(self.items[index].name, sample.image, _translated(sample.labels, source.ids))

    def read_labels(self, index: int) -> NDArray[np.uint8] | None:
        """The labels alone, in train ids of the mix."""
        source = self._at(index)
        return _translated(source.data.read_labels(index - source.start), source.ids)

    def read_weights(self, index: int, size: tuple[int, ...]) -> Weights:
        """The weights of an item's pixels.

        Args:
            index: of the item.
            size: (H, W) of its labels.

        Raises:
            UserError: the confidence map cannot be read.
        """
        source = self._at(index)
        if source.maps is None:
            return Weights(source.settings.weight, None, None)
        table = (source.maps.levels**source.settings.confidence_power).astype(np.float32)
        levels = source.maps.read(source.data.items[index - source.start], size)
        return Weights(source.settings.weight, levels, table)

    def centroids(
        self, tile: int, cache_dir: Path, workers: int = 1, progress: Callable[[int, int], None] | None = None
    ) -> Centroids:
        """Class positions of all sources, each cached by itself; see ``class_centroids``."""
        tables = [class_centroids(source.data, tile, cache_dir, workers, progress) for source in self._sources]
        ids = [None if source.ids is None else source.ids.astype(np.int64) for source in self._sources]
        return join_centroids(tables, [source.start for source in self._sources], ids)

    def describe(self, epoch_length: int) -> str | None:
        """One line on what an epoch of so many draws, without class-uniform sampling, is made of; None if no mix."""
        if not self.is_mix:
            return None
        shares = self.shares
        total = sum(share.ratio for share in shares if share.plain)
        parts = [
            f"{share.name} {round(epoch_length * share.ratio / total) if share.plain else 'class-uniform only'} "
            f"({share.num_items} images{'' if share.until_epoch is None else f', until epoch {share.until_epoch}'})"
            for share in shares
        ]
        return f"an epoch of {epoch_length} crops mixes {', '.join(parts)}"

    def _at(self, index: int) -> _Source:
        assert 0 <= index < len(self.items), index
        return next(source for source in reversed(self._sources) if source.start <= index)


def open_training_data(config: "TrainDataConfig | SegmentationData") -> TrainingData:
    """Open one data set or all sources of a mix; a data set that is open already is taken as it is.

    Raises:
        UserError: a source cannot be opened, its classes are others than the first one's, or it has no confidence maps
            where they are asked for.
    """
    if isinstance(config, TrainingData):
        return config
    if isinstance(config, SegmentationData):
        return TrainingData({"training": config})
    if not isinstance(config, MixConfig):
        return TrainingData({"training": open_data(config)})
    return TrainingData({name: _open(name, source) for name, source in config.sources.items()}, config)


def _open(name: str, source: SourceConfig) -> SegmentationData:
    try:
        return open_data(source.data)
    except UserError as error:
        raise UserError(f"source {name!r}: {error}") from None


def _translated(labels: NDArray[np.uint8] | None, ids: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
    return labels if labels is None or ids is None else ids[labels]


def _translation(first: str, wanted: LabelSpace, name: str, found: LabelSpace) -> NDArray[np.uint8] | None:
    """Train ids of ``found`` to those of ``wanted``, by class names, or None where they are the same."""
    match = wanted.match(found)
    if not match.same_classes:
        different = [f"only {first!r} has {', '.join(match.lacking[:3])}"] if match.lacking else []
        different += [f"only {name!r} has {', '.join(match.strange[:3])}"] if match.strange else []
        raise UserError(
            f"sources {first!r} (label space {wanted.name!r}) and {name!r} ({found.name!r}) have different classes: "
            f"{'; '.join(different)}; give both the same classes by name (their order and ids may differ)"
        )
    return None if match.same_order else match.table


def _maps(name: str, source: SourceConfig) -> ConfidenceMaps | None:
    if not source.confidence_power:
        return None
    if not isinstance(source.data, FolderConfig):
        raise UserError(
            f"source {name!r} is not a folder of auto-labels and has no confidence maps; set confidence_power to 0"
        )
    try:
        return ConfidenceMaps(source.data.root.expanduser())
    except UserError as error:
        raise UserError(f"source {name!r}: {error}") from None
