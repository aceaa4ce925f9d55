"""Tensors by name from PyTorch's files, without running what the files ask for.

PyTorch's own reader of tensors (``weights_only``) is told of an inert stand-in for numpy's numbers and arrays, because
training scripts keep their scores as such; a file that asks for anything else is refused.
"""

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polyscale.errors import UserError
from polyscale.files import memory_limit

__all__ = ["read_tensor_file", "tensors_by_name"]

_WRAPPERS = ("state_dict", "model", "model_state", "model_dict")
_NUMPY = (
    *("numpy.ndarray", "numpy.dtype"),
    *("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"),
    *("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
)
_UNSUPPORTED = re.compile(r"GLOBAL ([\w.]+)|unrecognized function (.{1,60})")


class _Ignored:
    """Stands for numpy's numbers and arrays in a file, and keeps nothing."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


def read_tensor_file(path: Path) -> Any:
    """Read a file of ``torch.save``: tensors, numbers and text in plain containers.

    Raises:
        UserError: the file is missing, damaged, of another kind, or asks for more than that.
    """
    try:
        other = _other_kind(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    if other is not None:
        raise UserError(f"{path} {other}; a PyTorch checkpoint (.pth) is needed")
    allowed: list[Any] = [(_Ignored, name) for name in _NUMPY]
    try:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings(), memory_limit(path):
            warnings.simplefilter("ignore")  # what is wrong is said below
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise many kinds
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise UserError(
                f"cannot read {path}: it asks for more memory than a file of its size needs, or than there is"
            ) from None
        asked = _UNSUPPORTED.search(str(error))
        if asked:
            raise UserError(
                f"{path} holds more than tensors ({asked[1] or asked[2]}), which could run as code when read; if you "
                "trust it, load it with PyTorch and save its state_dict alone"
            ) from None
        raise UserError(
            f"cannot read {path}: it is damaged, or no PyTorch checkpoint; a state dict of tensors (.pth) is needed"
        ) from None


def tensors_by_name(content: Any, path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict, or of the one that a checkpoint wraps; what else it holds is left out.

    Raises:
        UserError: there are none, or one is not stored number by number.
    """
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    named = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(name): value.detach() for name, value in named if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{path} holds no tensors by name; a checkpoint or a state dict is needed")
    for name, value in tensors.items():
        if value.layout is not torch.strided or value.is_quantized or value.is_meta:
            raise UserError(f"{path}: {name[:100]} is a sparse, quantised or empty tensor; save it as an ordinary one")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise UserError(f"{path}: {name[:100]} is a tensor that repeats its numbers; save it as an ordinary one")
    return tensors


def _other_kind(path: Path) -> str | None:
    """What the file is where its first bytes or its members tell that it is no checkpoint."""
    with path.open("rb") as file:
        first = file.read(9)
    if first[8:] == b"{":
        return "is a safetensors file under another name, and must end in .safetensors"
    if first.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.namelist()
        except Exception:  # zipfile raises many kinds, also of names that are no text
            return "is damaged: it begins like a zip file and has no list of members that can be read"
        if not any(name.endswith("data.pkl") for name in members):
            return "is a zip file that PyTorch did not write"
        if any(name.endswith("constants.pkl") for name in members):
            return "is a TorchScript program and no state dict"
        return None
    return None if first.startswith(b"\x80") else "is no PyTorch checkpoint"
