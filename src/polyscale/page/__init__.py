"""A local page to try a network: an image is dropped there, and looked at by scales."""

from polyscale.page.server import PageServer

__all__ = ["PageServer"]
