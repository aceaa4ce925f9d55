"""Training: configuration, loop, resume."""

from polyscale.training.choose import choose_recipe, is_data, run_name
from polyscale.training.config import ExperimentConfig
from polyscale.training.failure import replay
from polyscale.training.listener import Listener
from polyscale.training.loop import TrainingResult, train

__all__ = ["ExperimentConfig", "Listener", "TrainingResult", "choose_recipe", "is_data", "replay", "run_name", "train"]
