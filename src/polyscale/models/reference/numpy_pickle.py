"""numpy arrays inside a pickle (``.pdparams``), read without running any code that the file names.

A pickle asks for functions by name and calls them. The few names that an array needs lead to the inert stand-ins below,
which only keep what they are given; every other name is refused. numpy's own functions are not called on what an
untrusted file says.
"""

import math
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np

from polyscale.errors import UserError
from polyscale.files import memory_limit

__all__ = ["StoredArray", "read_array_pickle"]

_KINDS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")


class StoredType:
    """Stands for ``numpy.dtype``: the code of a plain number."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code = str(code)
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.order = "<" if state[1] == "=" else state[1]

    def dtype(self) -> np.dtype[Any]:
        """The type of plain numbers that it names.

        Raises:
            ValueError: it is of another kind.
        """
        if self.code not in _KINDS:
            raise ValueError(f"an array of {self.code[:20]!r}, not of numbers")
        return np.dtype(self.order + self.code)


class StoredArray:
    """Stands for ``numpy.ndarray``: its shape, type and bytes."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray[Any, Any]:
        """The array.

        Raises:
            ValueError: what the file says of it does not fit together.
        """
        state = self.state
        if not (isinstance(state, tuple) and len(state) == 5 and isinstance(state[2], StoredType)):
            raise ValueError("an array without shape, type and bytes")
        _, shape, kind, columns_first, content = state
        dtype = kind.dtype()
        sizes_fit = isinstance(shape, tuple) and all(isinstance(side, int) and side >= 0 for side in shape)
        if not (sizes_fit and isinstance(content, bytes) and len(content) == math.prod(shape) * dtype.itemsize):
            raise ValueError("an array whose bytes do not fit its shape")
        array = np.frombuffer(content, dtype).reshape(shape, order="F" if columns_first else "C")
        return np.array(array, dtype=dtype.newbyteorder("="), order="C")


def _unfilled(*_: Any) -> StoredArray:
    return StoredArray()


def _number(*_: Any) -> None:
    """A numpy number, of no use here: scores and counters of training."""


def _latin_bytes(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1") if encoding == "latin1" else b""


def _no_bytes(*_: Any) -> bytes:
    """The bytes of an array without elements."""
    return b""


class _ArrayUnpickler(pickle.Unpickler):
    """Gives stand-ins for arrays, and plain containers; refuses every other name."""

    allowed: ClassVar[dict[str, Any]] = {
        "numpy.ndarray": StoredArray,
        "numpy.dtype": StoredType,
        "numpy.core.multiarray._reconstruct": _unfilled,
        "numpy._core.multiarray._reconstruct": _unfilled,
        "numpy.core.multiarray.scalar": _number,
        "numpy._core.multiarray.scalar": _number,
        "_codecs.encode": _latin_bytes,
        "builtins.bytes": _no_bytes,
        "__builtin__.bytes": _no_bytes,
        "collections.OrderedDict": OrderedDict,
        "builtins.tuple": tuple,
        "__builtin__.tuple": tuple,
    }

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        name = f"{module_name}.{global_name}"
        if name not in self.allowed:
            raise pickle.UnpicklingError(f"it asks for {name[:80]}")
        return self.allowed[name]

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError(f"it refers to something outside itself ({str(pid)[:40]})")


def read_array_pickle(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Name -> array of a pickled mapping, as ``.pdparams`` files are; what is no array is left out.

    Raises:
        UserError: not such a file, or it asks for more than arrays.
    """
    try:
        with path.open("rb") as file, memory_limit(path):
            content = _ArrayUnpickler(file).load()
        if not isinstance(content, dict):
            raise pickle.UnpicklingError("it holds no arrays by name")
        arrays = {str(name): found.array() for name, value in content.items() if (found := _stored(value)) is not None}
        return _joined(arrays, content.get("UnpackBigParamInfor@@"))
    except UserError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"cannot read {path}: {reason}; only a pickle of numpy arrays by name is read") from None


def _stored(value: Any) -> StoredArray | None:
    """The array of an entry: itself, or as Paddle stores tensors, the second of (name, array)."""
    if isinstance(value, tuple) and len(value) == 2:
        value = value[1]
    return value if isinstance(value, StoredArray) else None


def _joined(arrays: dict[str, np.ndarray[Any, Any]], parts: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Large arrays that old Paddle versions stored in slices, put together."""
    for name, part in parts.items() if isinstance(parts, dict) else ():
        slices = [arrays.pop(piece) for piece in part["slices"]]
        arrays[str(name)] = np.concatenate(slices).reshape(part["OriginShape"])
    return arrays
