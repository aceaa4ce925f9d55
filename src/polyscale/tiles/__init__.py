"""Images of any size: memory is bounded by the tile, not by the image, and every scale keeps its context."""

from polyscale.tiles.blend import Block
from polyscale.tiles.look import classify_in_tiles, look_in_tiles
from polyscale.tiles.plan import ArrayPixels, Pixels, Tiles

__all__ = ["ArrayPixels", "Block", "Pixels", "Tiles", "classify_in_tiles", "look_in_tiles"]
