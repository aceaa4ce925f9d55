"""An exported network in use: ONNX Runtime computes what the file holds, and nothing else is run from it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from polyscale.errors import UserError
from polyscale.models.metadata import ENTRY, unpack
from polyscale.multiscale import MultiScale
from polyscale.scales import check_scales, scaled_size
from polyscale.views import Fused, View

__all__ = ["ALIKE", "INPUT", "OUTPUTS", "Exported", "OnnxNetwork", "open_onnx", "read_onnx_facts"]

INPUT = "images"
OUTPUTS = ("logits", "weights")
ALIKE = ("single", "average")
"""Methods that weigh their scales alike: their files give no weights."""


class Exported(NamedTuple):
    """What an exported file says of the graph inside."""

    method: str
    num_classes: int
    scales: tuple[float, ...]
    """Finest first."""
    size: tuple[int, int] | None
    """(H, W) of the images that it takes; None for all."""


class OnnxNetwork(MultiScale):
    """A network in an ONNX file. Its scales are those of the export, and it shows no views.

    Args:
        session: ONNX Runtime's, of the file.
        facts: what the file says of itself.
    """

    def __init__(self, session: Any, facts: Exported) -> None:
        super().__init__(nn.Identity(), facts.scales, facts.scales, fixed=True)
        self.method = facts.method
        self.num_classes = facts.num_classes
        self.session = session
        self.size = facts.size

    def choose(self, scales: Sequence[float] | None = None) -> tuple[float, ...]:
        """The scales of the export.

        Raises:
            ValueError: others are asked for.
        """
        if scales is not None and check_scales(scales) != self.eval_scales:
            fixed = ",".join(f"{scale:g}" for scale in sorted(self.eval_scales))
            raise ValueError(
                f"the file was exported for scales {fixed}; leave --scales out, or export the checkpoint with others"
            )
        return self.eval_scales

    def combine(self, images: Tensor, scales: tuple[float, ...]) -> Fused:
        """Run the graph. The views carry their weight as attention; their logits are empty.

        Raises:
            UserError: a size that the file does not take, ONNX Runtime fails, or the graph gives something else than
                the file says.
        """
        self._check(images, scales)
        pixels = np.ascontiguousarray(images.detach().float().cpu().numpy())
        try:
            found = self.session.run(None, {INPUT: pixels})
        except Exception as error:  # ONNX Runtime's errors have no class in common
            told = " ".join(str(error).split())
            if "allocate memory" in told or "bad_alloc" in told:
                raise MemoryError(told) from None
            raise UserError(f"ONNX Runtime cannot run the file: {told[:200]}; export it anew") from None
        channels = (self.num_classes,) if self.method in ALIKE else (self.num_classes, len(scales))
        wanted = [(len(images), count, *images.shape[-2:]) for count in channels]
        if [getattr(x, "shape", None) for x in found] != wanted or any(x.dtype != np.float32 for x in found):
            given = [getattr(x, "shape", type(x).__name__) for x in found]
            raise UserError(f"the file is damaged: it gives {given} where {wanted} is due; export it anew")
        logits, *weights = (torch.from_numpy(x).to(images.device) for x in found)
        views = {}
        for place, scale in enumerate(scales):
            empty = logits.new_zeros(()).expand(len(images), 1, *scaled_size(images.shape[-2:], scale))
            views[scale] = View(empty, weights[0][:, place : place + 1] if weights else None)
        return Fused(logits, None, views)

    def _check(self, images: Tensor, scales: tuple[float, ...]) -> None:
        height, width = images.shape[-2:]
        if torch.is_autocast_enabled(images.device.type):
            raise UserError("an exported network computes in the precision of its file; leave --precision out")
        if self.size is not None and (height, width) != self.size:
            raise UserError(
                f"the file was exported for images of {self.size[0]}x{self.size[1]} (height x width), got "
                f"{height}x{width}; export with --size dynamic, or resize the images"
            )
        if min(height, width) * min(scales) < 1:
            raise UserError(
                f"an image of {height}x{width} has no pixel at scale {min(scales):g}; an exported network needs one"
            )

    def weights(self, views: Mapping[float, View]) -> dict[float, Tensor]:
        """As the graph gave them: of the class chosen."""
        found = {scale: view.attention for scale, view in views.items() if view.attention is not None}
        return found or super().weights(views)

    def parts(self) -> dict[str, nn.Module]:
        """None that PyTorch knows."""
        return {}


def open_onnx(path: Path) -> tuple[OnnxNetwork, dict[str, Any]]:
    """A network from a file of ``polyscale export``, and the facts in it.

    Raises:
        UserError: ONNX Runtime is missing, or it is not such a file.
    """
    session = _session(path)
    facts = _facts(session, path)
    try:
        told = facts["export"]
        size = None if told["size"] is None else (int(told["size"][0]), int(told["size"][1]))
        num_classes = len(facts["label_space"]["classes"])
        exported = Exported(str(told["method"]), num_classes, check_scales(told["scales"]), size)
        names = [x.name for x in session.get_inputs()], tuple(x.name for x in session.get_outputs())
        if names != ([INPUT], OUTPUTS[:1] if exported.method in ALIKE else OUTPUTS):
            raise ValueError(f"it gives {names}")
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())[:200]}); export it anew") from None
    return OnnxNetwork(session, exported), facts


def read_onnx_facts(path: Path) -> dict[str, Any]:
    """The facts in a file of ``polyscale export``: version, config, label_space, info and export.

    Raises:
        UserError: as for ``open_onnx``.
    """
    return _facts(_session(path, optimise=False), path)


def _session(path: Path, optimise: bool = True) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f'{path} needs ONNX Runtime: pip install "polyscale[onnx]"') from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what is wrong it raises as well, and a refusal is one line
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    wanted = ("CUDAExecutionProvider",) if torch.cuda.is_available() else ()
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[*providers, "CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no class in common
        raise UserError(f"{path} is no readable ONNX file ({' '.join(str(error).split())[:200]})") from None


def _facts(session: Any, path: Path) -> dict[str, Any]:
    metadata = session.get_modelmeta().custom_metadata_map
    if ENTRY not in metadata:
        raise UserError(
            f"{path} was not written by polyscale export, so its classes and scales are not known; export the "
            "checkpoint that it was made of, or run it with ONNX Runtime alone"
        )
    try:
        return unpack(metadata)
    except (TypeError, AttributeError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({' '.join(str(error).split())[:200]}); export it anew") from None
