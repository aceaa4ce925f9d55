"""The input of training: crops drawn from data sets, transformed, mixed and batched.

Names load on first use, so that a recipe is read without waiting for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyscale.crops.centroids import Centroids, class_centroids
    from polyscale.crops.loader import Batch, BatchPlan, TrainingCrops, build_loader
    from polyscale.crops.mix import TrainingData, Weights, open_training_data
    from polyscale.crops.sampling import ClassUniformConfig, Draw, EpochSampler, SourceShare, shard
    from polyscale.crops.sources import MixConfig, SourceConfig, TrainDataConfig
    from polyscale.crops.transforms import AugmentConfig, augment, augment_planes

__all__ = [
    "AugmentConfig",
    "Batch",
    "BatchPlan",
    "Centroids",
    "ClassUniformConfig",
    "Draw",
    "EpochSampler",
    "MixConfig",
    "SourceConfig",
    "SourceShare",
    "TrainDataConfig",
    "TrainingCrops",
    "TrainingData",
    "Weights",
    "augment",
    "augment_planes",
    "build_loader",
    "class_centroids",
    "open_training_data",
    "shard",
]

_HOMES = {
    "centroids": (
        "Centroids",
        "class_centroids",
    ),
    "loader": (
        "Batch",
        "BatchPlan",
        "TrainingCrops",
        "build_loader",
    ),
    "mix": (
        "TrainingData",
        "Weights",
        "open_training_data",
    ),
    "sampling": (
        "ClassUniformConfig",
        "Draw",
        "EpochSampler",
        "SourceShare",
        "shard",
    ),
    "sources": (
        "MixConfig",
        "SourceConfig",
        "TrainDataConfig",
    ),
    "transforms": (
        "AugmentConfig",
        "augment",
        "augment_planes",
    ),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"polyscale.crops.{home}"), name)
    raise AttributeError(f"module 'polyscale.crops' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
