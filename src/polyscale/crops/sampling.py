"""Order of the images: epochs with a class-uniform share, and how processes divide them.

An epoch is a plain list, made from (seed, epoch) alone. Every process makes the same whole list and
takes its own places in it, so that no state is kept, nothing is sent between processes, and a run resumes anywhere by
skipping. A draw carries its position in the epoch: seed the augmentation by (seed, epoch, position) and not by the
image, which class-uniform sampling may draw several times an epoch and which would then be cropped and coloured alike
each time.

Several sources (see ``mix``) are ranges of one list of images. One source draws the same random numbers as no sources.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from polyscale.config import Config
from polyscale.crops.centroids import Centroids
from polyscale.errors import UserError, unknown

__all__ = ["Boost", "ClassUniformConfig", "Draw", "EpochSampler", "SourceShare", "shard"]

# numpy pads a seed with zeros, so that [seed, epoch] and [seed, epoch, 0] are the same stream: a fourth number keeps
# the order of the epoch independent of the augmentation of its first image.
_STREAM = (0, 1)


def _not_negative(boost: dict[str, float]) -> dict[str, float]:
    for name, weight in boost.items():
        if weight < 0:
            raise ValueError(f"the weight of {name!r} must be 0 or more, got {weight}")
    return boost


Boost = Annotated[dict[str, float], AfterValidator(_not_negative)]
"""Class name to weight, 0 or more."""


class ClassUniformConfig(Config):
    """Class-uniform sampling: part of each epoch shows every class equally often (the reference uses one half)."""

    fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of an epoch's draws that go round the classes; 0 is off."""
    tile: int = Field(default=1024, ge=1)
    """Side in pixels of the tiles in which each class is looked for."""
    last_epoch: int | None = Field(default=None, ge=0)
    """From this epoch on (the first is 0) every draw is a plain image; null never stops."""
    boost: Boost = Field(default_factory=dict)
    """Class name to weight; a class with weight 2 is drawn twice as often as one without, 0 leaves it out."""
    classes: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Only these classes are drawn; null is all."""
    min_pixels: int = Field(default=1, ge=1)
    """A tile counts for a class only with at least this many of its pixels."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One position in an epoch.

    Attributes:
        index: which image of the data.
        centre: (y, x) pixel of that image that the crop must contain; ``None`` is a crop anywhere.
        position: the place in the whole epoch, over all processes: the third number of the augmentation's seed.
    """

    index: int
    centre: tuple[int, int] | None
    position: int


@dataclass(frozen=True)
class SourceShare:
    """Share of one source of several in an epoch; see ``SourceConfig``.

    Attributes:
        name: for messages.
        num_items: its number of images, 1 or more.
        ratio: its draws against those of the other sources, above 0.
        until_epoch: from this epoch on it is not drawn; null never stops.
        plain: whether it is also drawn without a class in mind.
        classes: only these classes are drawn from it; null is all.
        boost: class name to the factor of its share of that class's draws.
    """

    name: str
    num_items: int
    ratio: float = 1.0
    until_epoch: int | None = None
    plain: bool = True
    classes: tuple[str, ...] | None = None
    boost: dict[str, float] = field(default_factory=dict)


class EpochSampler:
    """Lists the draws of any epoch.

    The class-uniform draws are divided among the classes by weight (1 unless boosted) to within one draw; a class's
    tiles are gone through in random order before any comes a second time. The other draws go through the images in
    random order. Several sources divide both kinds of draws, by ratio and within each class, to within one draw.

    Args:
        num_items: number of images.
        seed: 0 or more.
        centroids: from `class_centroids`; may be ``None`` where ``config.fraction`` is 0.
        config: the class-uniform share.
        epoch_length: draws an epoch; ``None`` is ``num_items``.
        sources: the ranges of images that divide an epoch, in their order; ``None`` is one range of all. One of them
            has ``plain`` and never stops.

    Raises:
        UserError: no images, a class that the label space does not have, or class-uniform sampling without any class
            to draw.

    Example:
        >>> sampler = EpochSampler(3, seed=0, centroids=None, config=ClassUniformConfig())
        >>> sorted(draw.index for draw in sampler.epoch(7))
        [0, 1, 2]
    """

    def __init__(
        self,
        num_items: int,
        seed: int,
        centroids: Centroids | None,
        config: ClassUniformConfig,
        epoch_length: int | None = None,
        sources: Sequence[SourceShare] | None = None,
    ) -> None:
        if num_items < 1:
            raise UserError("there are no images to draw from; check the data's path and split")
        self.num_items = num_items
        self.epoch_length = num_items if epoch_length is None else epoch_length
        self.seed = seed
        self.config = config
        assert self.epoch_length >= 1, self.epoch_length
        assert seed >= 0, seed
        self.sources = tuple(sources or [SourceShare("", num_items)])
        sizes = [source.num_items for source in self.sources]
        assert sum(sizes) == num_items, (sizes, num_items)
        assert any(source.plain and source.until_epoch is None for source in self.sources)
        ends = np.cumsum(sizes).tolist()
        self._ranges = [np.arange(end - size, end) for end, size in zip(ends, sizes, strict=True)]
        self._centroids = centroids
        # What there is to draw for each class changes only where a source ends: found once, and faults told at once.
        self._tiles: dict[tuple[int, ...], _Tiles] = {}
        if config.fraction > 0.0:
            assert centroids is not None, "class-uniform sampling needs class_centroids"
            for epoch in {0, *(source.until_epoch or 0 for source in self.sources)}:
                active = self.active(epoch)
                self._tiles[active] = _weigh(centroids, config, [(self.sources[k], self._ranges[k]) for k in active])

    def active(self, epoch: int) -> tuple[int, ...]:
        """Positions of the sources that an epoch draws from."""
        ends = enumerate(source.until_epoch for source in self.sources)
        return tuple(position for position, end in ends if end is None or epoch < end)

    def epoch(self, epoch: int) -> list[Draw]:
        """The draws of an epoch, in order; the same for the same (seed, epoch), whatever was asked for before."""
        rng = np.random.default_rng([self.seed, epoch, *_STREAM])
        on = self.config.last_epoch is None or epoch < self.config.last_epoch
        num_uniform = round(self.config.fraction * self.epoch_length) if on else 0
        active = self.active(epoch)
        givers = [position for position in active if self.sources[position].plain]
        ratios = np.array([self.sources[position].ratio for position in givers])
        counts = _divided(self.epoch_length - num_uniform, ratios, rng)
        plain = np.concatenate([_in_turns(self._ranges[k], n, rng) for k, n in zip(givers, counts, strict=True)])
        chosen: list[tuple[int, tuple[int, int] | None]] = [(index, None) for index in plain.tolist()]
        table = self._centroids
        if num_uniform and table is not None:
            rows = self._tiles[active].draw(num_uniform, rng)
            places = zip(table.items[rows].tolist(), table.ys[rows].tolist(), table.xs[rows].tolist(), strict=True)
            chosen += [(item, (y, x)) for item, y, x in places]
        order = rng.permutation(self.epoch_length).tolist()
        return [Draw(chosen[place][0], chosen[place][1], position) for position, place in enumerate(order)]


@dataclass(frozen=True)
class _Tiles:
    """Rows of the table of class positions, for each class and source that are drawn."""

    rows: list[list[NDArray[np.int64]]]
    """Positions of each class to draw, by source."""
    ratios: list[NDArray[np.float64]]
    """How the sources divide each class."""
    shares: NDArray[np.float64]
    """Probability of each class in the class-uniform draws; their sum is 1."""

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        chosen = []
        for rows, ratios, of_class in zip(self.rows, self.ratios, _apportioned(count, self.shares, rng), strict=True):
            counts = _divided(of_class, ratios, rng)
            chosen += [_in_turns(part, n, rng) for part, n in zip(rows, counts, strict=True)]
        return np.concatenate(chosen)


def _apportioned(count: int, shares: NDArray[np.float64], rng: np.random.Generator) -> list[int]:
    # One random offset and equal steps through the shares: each gets its share to within one draw, and which one gets
    # the odd draw varies from epoch to epoch.
    steps = (np.arange(count) + rng.random()) / max(count, 1)
    owners = np.searchsorted(np.cumsum(shares)[:-1], steps, side="right")
    counts: list[int] = np.bincount(owners, minlength=len(shares)).tolist()
    return counts


def _divided(count: int, ratios: NDArray[np.float64], rng: np.random.Generator) -> list[int]:
    """Draws of each source; one alone takes them all, and no random number."""
    return [count] if len(ratios) == 1 else _apportioned(count, ratios / ratios.sum(), rng)


def _in_turns(values: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """``count`` of the values in random order, every value once before any comes again."""
    rounds = [rng.permutation(values) for _ in range(-(-count // len(values)))]
    return np.concatenate([values[:0], *rounds])[:count]


def _weigh(
    centroids: Centroids, config: ClassUniformConfig, sources: Sequence[tuple[SourceShare, NDArray[np.int64]]]
) -> _Tiles:
    """What there is to draw for each class, from the sources with their ranges of items."""
    _check_names("", config, centroids.names)
    for source, _ in sources:
        _check_names(f"source {source.name!r}: ", source, centroids.names)
    rows, ratios, weights = [], [], []
    for train_id, name in enumerate(centroids.names):
        found = np.flatnonzero((centroids.classes == train_id) & (centroids.pixels >= config.min_pixels))
        weight = config.boost.get(name, 1.0)
        if weight == 0.0 or (config.classes is not None and name not in config.classes):
            continue
        parts, parts_ratios = [], []
        for source, items in sources:
            part = found[(centroids.items[found] >= items[0]) & (centroids.items[found] <= items[-1])]
            share = source.ratio * source.boost.get(name, 1.0)
            if len(part) and share > 0.0 and (source.classes is None or name in source.classes):
                parts.append(part)
                parts_ratios.append(share)
        if parts:
            rows.append(parts)
            ratios.append(np.array(parts_ratios))
            weights.append(weight)
    if not rows:
        raise UserError(
            "class-uniform sampling finds no class to draw in the training masks; "
            "check min_pixels, classes, boost and the masks, or set fraction to 0"
        )
    shares = np.array(weights)
    return _Tiles(rows, ratios, shares / shares.sum())


def _check_names(where: str, config: ClassUniformConfig | SourceShare, names: tuple[str, ...]) -> None:
    for key, given in (("boost", tuple(config.boost)), ("classes", config.classes or ())):
        for name in given:
            if name not in names:
                raise UserError(f"{where}{key}: {unknown('class', name, names)}")


def shard(draws: Sequence[Draw], batch_size: int, rank: int, world_size: int) -> list[list[Draw]]:
    """The batches of one process.

    At each step the processes together hold exactly what one process with ``batch_size * world_size`` images would;
    process r takes the positions i with ``i % world_size == r``. Only the last, incomplete step of all processes
    together is left out.

    Args:
        draws: the whole epoch, the same in every process.
        batch_size: images a process and step.
        rank: this process, from 0 to ``world_size - 1``.
        world_size: number of processes.

    Raises:
        UserError: the epoch is shorter than one step.
    """
    assert batch_size >= 1, batch_size
    assert 0 <= rank < world_size, (rank, world_size)
    step = batch_size * world_size
    if len(draws) < step:
        raise UserError(
            f"an epoch of {len(draws)} images is shorter than one step of {step} ({batch_size} on each of {world_size} "
            "processes); lower the batch size or lengthen the epoch"
        )
    return [list(draws[first + rank : first + step : world_size]) for first in range(0, len(draws) - step + 1, step)]
