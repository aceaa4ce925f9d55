"""Several data sets as one to train on: fine and auto-labelled images, each with its share, weight and end.

    data:
      train:
        kind: mix
        sources:
          fine: {data: {kind: folder, root: streets, split: train}}
          auto: {data: auto, until_epoch: 150, boost: {bus: 3}}

The first source is the reference: the others' ratios count against it, and its classes are the mix's.

Unusual here: the mix is one long list of items, source after source, whose names begin with their source's. Labels are
brought to the first source's train ids by the classes' names, so sources may differ in the order of classes and in
their ids on disk, but not in what the classes are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, field_validator, model_validator

from polyscale.config import Config
from polyscale.crops.centroids import Centroids, class_centroids, join_centroids
from polyscale.crops.sampling import SourceShare
from polyscale.data.camvid import CamVidConfig
from polyscale.data.confidence import ConfidenceMaps
from polyscale.data.folders import FolderConfig
from polyscale.data.items import Item, Sample, SegmentationData
from polyscale.data.open import DataConfig, StreetsConfig, open_data, path_as_config
from polyscale.errors import UserError
from polyscale.labels import IGNORE, LabelSpace

__all__ = ["MixConfig", "MixedData", "SourceConfig", "TrainDataConfig", "open_mix"]


class SourceConfig(Config):
    """One data set of a mix.

    Attributes:
        data: its config, or the path of a folder that ``polyscale`` recognises, such as one of auto-labels.
        ratio: draws an epoch for each draw of the first source; by default as the mix's ``balance`` says.
        weight: how much each of its pixels counts in every loss.
        until_epoch: from this epoch on (the first is 0) it is not drawn; the other sources fill the epoch. ``None``
            never stops.
        plain: False draws it by class-uniform sampling alone, as the reference recipe does with auto-labels.
        classes: only these classes are drawn from it by class-uniform sampling; ``None`` is all.
        boost: class name to weight: of the class-uniform draws of a class this source gets its ratio times this. (How
            often a class comes at all is for ``sampling.boost`` to say.)
        confidence_power: above 0, each pixel's weight is also its confidence to this power, from the confidence maps of
            an auto-labelled folder; 0 reads none.
    """

    data: DataConfig
    ratio: float | None = Field(default=None, gt=0)
    weight: float = Field(default=1.0, gt=0)
    until_epoch: int | None = Field(default=None, ge=1)
    plain: bool = True
    classes: tuple[str, ...] | None = Field(default=None, min_length=1)
    boost: dict[str, float] = Field(default_factory=dict)
    confidence_power: float = Field(default=0.0, ge=0)

    @field_validator("boost")
    @classmethod
    def _not_negative(cls, boost: dict[str, float]) -> dict[str, float]:
        for name, weight in boost.items():
            if weight < 0:
                raise ValueError(f"the weight of {name!r} must be 0 or more, got {weight}")
        return boost


class MixConfig(Config):
    """Several data sets to train on together.

    Attributes:
        sources: name to data set; the first one is the reference, usually the one with fine labels.
        balance: the ratio of sources that give none: ``equal`` draws as many of each in an epoch, anew each time, which
            is how the paper mixes fine and auto-labelled images; ``all`` draws every image of every source once.
    """

    kind: Literal["mix"] = "mix"
    sources: dict[str, SourceConfig] = Field(min_length=1)
    balance: Literal["equal", "all"] = "equal"

    @model_validator(mode="after")
    def _first_is_the_reference(self) -> "MixConfig":
        first, source = next(iter(self.sources.items()))
        if source.until_epoch is not None or not source.plain:
            key = "plain: false" if not source.plain else "until_epoch"
            raise ValueError(
                f"the first source, {first!r}, fills the epochs to the end and cannot have {key}; put another one first"
            )
        slashed = [name for name in self.sources if "/" in name or not name]
        if slashed:
            raise ValueError(f"a source's name begins the names of its images and cannot be {slashed[0]!r}")
        return self

    @property
    def weighting(self) -> Literal["none", "image", "pixel"]:
        """Whether the losses weigh images (source weights) or pixels (confidence)."""
        if any(source.confidence_power for source in self.sources.values()):
            return "pixel"
        return "image" if any(source.weight != 1 for source in self.sources.values()) else "none"


TrainDataConfig = Annotated[
    FolderConfig | CamVidConfig | StreetsConfig | MixConfig,
    Field(discriminator="kind"),
    BeforeValidator(path_as_config),
]
"""What ``data.train`` of a recipe may be: one data set, or a mix of several."""


@dataclass(frozen=True)
class _Source:
    name: str
    config: SourceConfig
    data: SegmentationData
    start: int
    """Position of its first item in the mix."""
    ids: NDArray[np.uint8] | None
    """(256,) its train ids to those of the mix; None where they are the same."""
    maps: ConfidenceMaps | None


class MixedData:
    """The items of all sources, source after source; a ``SegmentationData``.

    Attributes:
        config: its own.
        label_space: that of the first source.
        items: named ``SOURCE/NAME``.
    """

    def __init__(self, config: MixConfig, parts: Sequence[SegmentationData]) -> None:
        self.config = config
        self.label_space: LabelSpace = parts[0].label_space
        self._sources: list[_Source] = []
        items: list[Item] = []
        first = next(iter(config.sources))
        for (name, source), data in zip(config.sources.items(), parts, strict=True):
            ids = _translation(first, self.label_space, name, data.label_space)
            maps = _maps(name, source) if source.confidence_power else None
            self._sources.append(_Source(name, source, data, len(items), ids, maps))
            items += (item._replace(name=f"{name}/{item.name}") for item in data.items)
        self.items: tuple[Item, ...] = tuple(items)

    def __len__(self) -> int:
        return len(self.items)

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
            config, size = source.config, len(source.data)
            default = 1.0 if self.config.balance == "equal" else size / reference
            ratio = default if config.ratio is None else config.ratio
            shares.append(
                SourceShare(
                    source.name, size, ratio, config.until_epoch, config.plain, config.classes, dict(config.boost)
                )
            )
        return shares

    @property
    def epoch_length(self) -> int:
        """Draws in which, without class-uniform sampling, each image of the first source comes once."""
        ratios = [share.ratio for share in self.shares]
        return max(1, round(len(self._sources[0].data) * sum(ratios) / ratios[0]))

    @property
    def importance(self) -> NDArray[np.float64]:
        """How often each item is drawn, against those of the first source; (items,), without class-uniform sampling."""
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
        labels = sample.labels
        if labels is not None and source.ids is not None:
            labels = source.ids[labels]
        return Sample(self.items[index].name, sample.image, labels)

    def read_weights(
        self, index: int, size: tuple[int, ...]
    ) -> tuple[float, NDArray[np.uint8] | None, NDArray[np.float32] | None]:
        """The weight of an item's pixels: one number, and where confidence counts, a plane and its table.

        Args:
            index: of the item.
            size: (H, W) of its labels.

        Returns:
            The source's weight, levels (H, W) or None, and the (K,) factor of each level or None.

        Raises:
            UserError: the confidence map cannot be read.
        """
        source = self._at(index)
        if source.maps is None:
            return source.config.weight, None, None
        factors = (source.maps.levels**source.config.confidence_power).astype(np.float32)
        return source.config.weight, source.maps.read(source.data.items[index - source.start], size), factors

    def centroids(
        self, tile: int, cache_dir: Path, workers: int = 1, progress: Callable[[int, int], None] | None = None
    ) -> Centroids:
        """Class positions of all sources, each cached by itself; see ``class_centroids``."""
        tables = [class_centroids(source.data, tile, cache_dir, workers, progress) for source in self._sources]
        ids = [None if source.ids is None else source.ids.astype(np.int64) for source in self._sources]
        return join_centroids(tables, [source.start for source in self._sources], ids)

    def describe(self, epoch_length: int) -> str:
        """One line on what an epoch of so many draws, without class-uniform sampling, is made of."""
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


def open_mix(config: MixConfig) -> MixedData:
    """Open all sources of a mix.

    Raises:
        UserError: a source cannot be opened, its classes are others than the first one's, or it has no confidence maps
            where they are asked for.
    """
    return MixedData(config, [_open(name, source) for name, source in config.sources.items()])


def _open(name: str, source: SourceConfig) -> SegmentationData:
    try:
        return open_data(source.data)
    except UserError as error:
        raise UserError(f"source {name!r}: {error}") from None


def _translation(first: str, wanted: LabelSpace, name: str, found: LabelSpace) -> NDArray[np.uint8] | None:
    """Train ids of ``found`` to those of ``wanted``, by class names, or None where they are the same."""
    places = {title.casefold(): place for place, title in enumerate(wanted.names)}
    names = [title.casefold() for title in found.names]
    lacking = [title for title in wanted.names if title.casefold() not in names]
    strange = [title for title in found.names if title.casefold() not in places]
    if lacking or strange:
        different = [f"only {first!r} has {', '.join(lacking[:3])}"] if lacking else []
        different += [f"only {name!r} has {', '.join(strange[:3])}"] if strange else []
        raise UserError(
            f"sources {first!r} (label space {wanted.name!r}) and {name!r} ({found.name!r}) have different classes: "
            f"{'; '.join(different)}; give both the same classes by name (their order and ids may differ)"
        )
    table: np.ndarray[Any, np.dtype[np.uint8]] = np.full(256, IGNORE, dtype=np.uint8)
    table[: len(names)] = [places[title] for title in names]
    return None if np.array_equal(table[: len(names)], np.arange(len(names))) else table


def _maps(name: str, source: SourceConfig) -> ConfidenceMaps:
    if not isinstance(source.data, FolderConfig):
        raise UserError(
            f"source {name!r} is not a folder of auto-labels and has no confidence maps; set confidence_power to 0"
        )
    try:
        return ConfidenceMaps(source.data.root.expanduser())
    except UserError as error:
        raise UserError(f"source {name!r}: {error}") from None
