"""The log of a run."""

from pathlib import Path

import pytest

from polyscale.errors import UserError
from polyscale.training.records import RunLog


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "loss": {}}\n{"step": 2, "lo')
    assert RunLog.read(path) == [{"step": 1, "loss": {}}]


@pytest.mark.parametrize(
    "line", [b"nonsense", b"[]", b"{}", b'{"step": "x"}', b'{"step": Infinity}', b"[" * 100_000, b"\0\xff"]
)
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 2}\n')
    with pytest.raises(UserError, match=r"line 2 of .*log\.jsonl is damaged; remove"):
        RunLog.read(path)
