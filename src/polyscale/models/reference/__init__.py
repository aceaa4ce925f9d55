"""Import of networks that the paper's authors and others have trained, under their own names."""

from polyscale.models.reference.files import Imported, import_reference
from polyscale.models.reference.load import load_reference

__all__ = ["Imported", "import_reference", "load_reference"]
