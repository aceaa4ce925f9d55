"""Drawn streets: street scenes with exact labels, for the demo, the tests and first experiments."""

from polyscale.data.streets.coarse import coarse_labels
from polyscale.data.streets.scene import STREETS, Scene, draw_scene
from polyscale.data.streets.source import StreetsSource, split_starts, write_streets

__all__ = ["STREETS", "Scene", "StreetsSource", "coarse_labels", "draw_scene", "split_starts", "write_streets"]
