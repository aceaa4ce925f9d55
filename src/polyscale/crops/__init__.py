"""The input of training: crops drawn from data sets, transformed, mixed and batched.

Names load on first use, so that a recipe is read without waiting for torch.
"""

from typing import TYPE_CHECKING

from polyscale.lazy import lazy_names

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
    "centroids": ("Centroids", "class_centroids"),
    "loader": ("Batch", "BatchPlan", "TrainingCrops", "build_loader"),
    "mix": ("TrainingData", "Weights", "open_training_data"),
    "sampling": ("ClassUniformConfig", "Draw", "EpochSampler", "SourceShare", "shard"),
    "sources": ("MixConfig", "SourceConfig", "TrainDataConfig"),
    "transforms": ("AugmentConfig", "augment", "augment_planes"),
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
