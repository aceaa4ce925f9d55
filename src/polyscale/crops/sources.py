"""Configuration of the data to train on: one data set, or several with their shares.

    data:
      train:
        kind: mix
        sources:
          fine: {data: {kind: folder, root: streets, split: train}}
          auto: {data: auto, until_epoch: 150, boost: {bus: 3}}

The first source is the reference: the others' ratios count against it, and its classes are the mix's.
"""

from typing import TYPE_CHECKING, Annotated, Literal, Union

from pydantic import BeforeValidator, Field, model_validator

from polyscale.config import Config
from polyscale.crops.sampling import Boost
from polyscale.data.kind import DataSetConfig
from polyscale.data.open import KINDS, DataConfig, path_as_config

__all__ = ["MixConfig", "SourceConfig", "SourceSettings", "TrainDataConfig"]


class SourceSettings(Config):
    """How one data set of a mix is drawn and weighed."""

    ratio: float | None = Field(default=None, gt=0)
    """Draws an epoch for each draw of the first source; by default as the mix's ``balance`` says."""
    weight: float = Field(default=1.0, gt=0)
    """How much each of its pixels counts in every loss."""
    until_epoch: int | None = Field(default=None, ge=1)
    """From this epoch on (the first is 0) it is not drawn; the other sources fill the epoch. null never stops."""
    plain: bool = True
    """false draws it by class-uniform sampling alone, as the reference recipe does with auto-labels."""
    classes: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Only these classes are drawn from it by class-uniform sampling; null is all."""
    boost: Boost = Field(default_factory=dict)
    """Class name to weight: of the class-uniform draws of a class this source gets its ratio times this. (How often a
    class comes at all is for ``sampling.boost`` to say.)
    """
    confidence_power: float = Field(default=0.0, ge=0)
    """Above 0, each pixel's weight is also its confidence to this power, from the confidence maps of an auto-labelled
    folder; 0 reads none.
    """


class SourceConfig(SourceSettings):
    """One data set of a mix."""

    data: DataConfig
    """Its config, or the path of a folder that ``polyscale`` recognises, such as one of auto-labels."""


class MixConfig(Config):
    """Several data sets to train on together."""

    kind: Literal["mix"] = "mix"
    sources: dict[str, SourceConfig] = Field(min_length=1)
    """Name to data set; the first one is the reference, usually the one with fine labels."""
    balance: Literal["equal", "all"] = "equal"
    """The ratio of sources that give none: ``equal`` draws as many of each in an epoch, anew each time, which is how
    the paper mixes fine and auto-labelled images; ``all`` draws every image of every source once.
    """

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


if TYPE_CHECKING:
    TrainDataConfig = DataSetConfig | MixConfig
else:
    _KINDS = (*KINDS, MixConfig)
    TrainDataConfig = Annotated[Union[_KINDS], Field(discriminator="kind"), BeforeValidator(path_as_config)]  # noqa: UP007
    """What ``data.train`` of a recipe may be: one data set, or a mix of several."""
