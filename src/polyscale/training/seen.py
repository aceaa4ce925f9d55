"""Which images a network was trained on, as far as its run's folder tells."""

from pathlib import Path

from polyscale.config import load_config
from polyscale.crops import MixConfig, open_training_data
from polyscale.errors import UserError
from polyscale.models.finding import find_network
from polyscale.training.config import ExperimentConfig

__all__ = ["images_trained_on"]


def images_trained_on(checkpoint: str | Path) -> frozenset[Path] | None:
    """The image files of the training that wrote a checkpoint; None where its folder has no recipe, or data are gone.

    Args:
        checkpoint: as ``find_network`` takes it.
    """
    recipe = find_network(checkpoint).parent / "config.yaml"
    if not recipe.is_file():
        return None
    try:
        chosen = load_config(ExperimentConfig, [recipe]).data.train
        sources = [source.data for source in chosen.sources.values()] if isinstance(chosen, MixConfig) else [chosen]
        if any(source.runs_code for source in sources):  # only a recipe that the user names may ask for that
            return None
        return frozenset(item.image.resolve() for item in open_training_data(chosen).items)
    except UserError:
        return None
