"""Training: configuration, loop, resume."""

from polyscale.training.config import ExperimentConfig
from polyscale.training.failure import replay
from polyscale.training.listener import Listener
from polyscale.training.loop import TrainingResult, train

__all__ = ["ExperimentConfig", "Listener", "TrainingResult", "replay", "train"]
