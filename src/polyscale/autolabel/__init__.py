"""Auto-labelling: a trained network, the teacher, labels images that have coarse labels or none.

Names load on first use, so reading a finished folder does not wait for torch.
"""

from typing import TYPE_CHECKING

from polyscale.lazy import lazy_names

if TYPE_CHECKING:
    from polyscale.autolabel.confidence import read_candidates, read_confidence
    from polyscale.autolabel.folder import read_description
    from polyscale.autolabel.records import read_manifest
    from polyscale.autolabel.run import autolabel
    from polyscale.autolabel.settings import AutolabelConfig
    from polyscale.autolabel.summary import Summary
    from polyscale.autolabel.thresholding import rethreshold

__all__ = [
    "AutolabelConfig",
    "Summary",
    "autolabel",
    "read_candidates",
    "read_confidence",
    "read_description",
    "read_manifest",
    "rethreshold",
]

_HOMES = {
    "confidence": ("read_candidates", "read_confidence"),
    "folder": ("read_description",),
    "records": ("read_manifest",),
    "thresholding": ("rethreshold",),
    "run": ("autolabel",),
    "settings": ("AutolabelConfig",),
    "summary": ("Summary",),
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
