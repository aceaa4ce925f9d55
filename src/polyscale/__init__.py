"""Polyscale: semantic segmentation that looks at several scales and learns which to trust where.

network = polyscale.load("runs/first")                       # a run, a checkpoint, or a network by name
result = network.predict("photo.jpg", scales=(0.5, 1, 2))    # labels, confidence, the weight of each scale
better = polyscale.attend(network, "mydata")                 # learn which scale to trust, for a trained network
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polyscale.attending import AttendConfig, AttendResult, attend
    from polyscale.config import load_config
    from polyscale.data import SegmentationData, open_data
    from polyscale.errors import UserError
    from polyscale.evaluation import Evaluation, evaluate
    from polyscale.export import export_network
    from polyscale.inference.predictor import Prediction, Predictor, load
    from polyscale.labels import LabelClass, LabelSpace
    from polyscale.looker import Looker
    from polyscale.models.build import ModelConfig, build_model
    from polyscale.models.publishing import push_to_hub, save_pretrained
    from polyscale.multiscale import HierarchicalMultiScale, MultiScale, View, fuse
    from polyscale.training import ExperimentConfig, train

# Public names and where they live. They load on first use: `import polyscale` and `polyscale --help` stay quick.
_HOMES = {
    "AttendConfig": "polyscale.attending",
    "AttendResult": "polyscale.attending",
    "Evaluation": "polyscale.evaluation",
    "ExperimentConfig": "polyscale.training",
    "HierarchicalMultiScale": "polyscale.multiscale",
    "LabelClass": "polyscale.labels",
    "LabelSpace": "polyscale.labels",
    "Looker": "polyscale.looker",
    "ModelConfig": "polyscale.models.build",
    "MultiScale": "polyscale.multiscale",
    "Prediction": "polyscale.inference.predictor",
    "Predictor": "polyscale.inference.predictor",
    "SegmentationData": "polyscale.data",
    "UserError": "polyscale.errors",
    "View": "polyscale.multiscale",
    "attend": "polyscale.attending",
    "build_model": "polyscale.models.build",
    "evaluate": "polyscale.evaluation",
    "export_network": "polyscale.export",
    "fuse": "polyscale.multiscale",
    "load": "polyscale.inference.predictor",
    "load_config": "polyscale.config",
    "open_data": "polyscale.data",
    "push_to_hub": "polyscale.models.publishing",
    "save_pretrained": "polyscale.models.publishing",
    "train": "polyscale.training",
}

__all__ = [
    "AttendConfig",
    "AttendResult",
    "Evaluation",
    "ExperimentConfig",
    "HierarchicalMultiScale",
    "LabelClass",
    "LabelSpace",
    "Looker",
    "ModelConfig",
    "MultiScale",
    "Prediction",
    "Predictor",
    "SegmentationData",
    "UserError",
    "View",
    "__version__",
    "attend",
    "build_model",
    "evaluate",
    "export_network",
    "fuse",
    "load",
    "load_config",
    "open_data",
    "push_to_hub",
    "save_pretrained",
    "train",
]

__version__: str


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'polyscale' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("polyscale")
    except PackageNotFoundError:  # a checkout that is not installed
        return "0.0.0"
