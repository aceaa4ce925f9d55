"""Pickles of arrays are read; pickles that ask for anything else do nothing."""

import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from polyscale.errors import UserError
from polyscale.models.reference.numpy_pickle import read_array_pickle


class Harmful:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_arrays_of_plain_numbers(tmp_path: Path, protocol: int) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.standard_normal((2, 3, 1, 1)).astype(np.float32),
        "b": np.asfortranarray(rng.standard_normal((4, 5))),
        "c": np.arange(6, dtype=">i4").reshape(2, 3),
        "d": np.array(3.5, np.float16),
        "e": np.zeros((0, 3), np.int64),
    }
    content = OrderedDict(arrays) | {"StructuredToParameterName@@": {"a": "conv_0.w"}, "number": np.float64(0.8)}
    content["f"] = ("conv_1.w", arrays["a"])  # as Paddle stores a tensor
    (tmp_path / "m.pdparams").write_bytes(pickle.dumps(content, protocol=protocol))
    read = read_array_pickle(tmp_path / "m.pdparams")
    assert sorted(read) == ["a", "b", "c", "d", "e", "f"]
    for name, array in {**arrays, "f": arrays["a"]}.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype.newbyteorder("=")


def test_arrays_in_slices_are_joined(tmp_path: Path) -> None:
    whole = np.arange(12.0).reshape(3, 4)
    content = {"w@@.0": whole.flatten()[:7], "w@@.1": whole.flatten()[7:]}
    content["UnpackBigParamInfor@@"] = {"w": {"OriginShape": (3, 4), "slices": ["w@@.0", "w@@.1"]}}
    (tmp_path / "m.pdparams").write_bytes(pickle.dumps(content, protocol=2))
    read = read_array_pickle(tmp_path / "m.pdparams")
    assert list(read) == ["w"]
    np.testing.assert_array_equal(read["w"], whole)


def bad(tmp_path: Path) -> dict[str, bytes]:
    arrays = pickle.dumps({"a": np.zeros(1000, np.float32)}, protocol=2)
    return {
        "asks for": pickle.dumps({"a": np.zeros(2), "b": Harmful(tmp_path / "harmed")}, protocol=4),
        "not of numbers": pickle.dumps({"a": np.array([{}], dtype=object)}, protocol=4),
        "no arrays by name": pickle.dumps([np.zeros(2)], protocol=4),
        "cut": arrays[: len(arrays) // 2],
        "empty": b"",
        "bytes do not fit": pickle.dumps({"a": np.zeros(1000, np.float32)}, protocol=4).replace(
            b"M\xe8\x03", b"M\xe9\x03"
        ),
    }


@pytest.mark.parametrize(
    "kind", ["asks for", "not of numbers", "no arrays by name", "cut", "empty", "bytes do not fit"]
)
def test_anything_else_is_refused_in_one_line_and_not_run(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.pdparams"
    path.write_bytes(bad(tmp_path)[kind])
    with pytest.raises(UserError) as caught:
        read_array_pickle(path)
    message = str(caught.value)
    assert message.startswith(f"cannot read {path}: ")
    assert "\n" not in message
    if " " in kind:
        assert kind in message
    assert not (tmp_path / "harmed").exists()
