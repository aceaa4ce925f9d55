"""Networks as files for other runtimes: ONNX and ``torch.export``, with the fusion of scales inside."""

from polyscale.export.verify import Agreement
from polyscale.export.write import SUFFIXES, Exported, export_network

__all__ = ["SUFFIXES", "Agreement", "Exported", "export_network"]
