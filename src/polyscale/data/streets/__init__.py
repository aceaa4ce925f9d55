"""Drawn streets: street scenes with exact labels, for the demo, the tests and first experiments."""

from polyscale.data.streets.source import (
    STREETS,
    Scene,
    StreetsSource,
    coarse_labels,
    draw_scene,
    split_starts,
    write_streets,
)

__all__ = ["STREETS", "Scene", "StreetsSource", "coarse_labels", "draw_scene", "split_starts", "write_streets"]
