"""Polyscale: semantic segmentation that looks at several scales and learns which to trust where."""

from importlib import import_module
from typing import Any

# Public names and where they live. They load on first use: `import polyscale` and `polyscale --help` stay quick.
_HOMES = {
    "LabelClass": "polyscale.labels",
    "LabelSpace": "polyscale.labels",
    "Prediction": "polyscale.inference.predictor",
    "Predictor": "polyscale.inference.predictor",
    "UserError": "polyscale.config",
    "build_model": "polyscale.models.build",
    "evaluate": "polyscale.evaluation",
    "fuse": "polyscale.multiscale",
    "load": "polyscale.inference.predictor",
    "open_data": "polyscale.data",
    "train": "polyscale.training",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - the names are strings

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
