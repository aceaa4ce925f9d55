"""Reading a large JSON object piece by piece: memory grows with its largest item and not with the file."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from polyscale.errors import UserError

__all__ = ["stream_object"]

_LONGEST = 1 << 26
"""Characters of one value of a file that is read piece by piece."""


_BLOCK = 1 << 20
_NO_SPACE = re.compile(r"[^ \t\r\n]")


def stream_object(path: Path, arrays: frozenset[str]) -> Iterator[tuple[str, Any]]:
    """The members of the object that a file holds, in its order.

    Args:
        path: a JSON file.
        arrays: keys whose value is a list; of these each item is given by itself, as (key, item).

    Yields:
        (key, value), or (key, item) again and again.

    Raises:
        UserError: the file cannot be read, or is no JSON object.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from _members(_Reader(file), arrays)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"cannot read {path}: {reason}; check the file and its permissions") from None
    except RecursionError:
        raise UserError(f"{path} nests lists too deeply for annotations") from None
    except _Damaged as error:
        raise UserError(
            f"{path} is no complete JSON file: {error} near character {error.position:,}; export it again"
        ) from None


class _Damaged(Exception):  # noqa: N818 - never seen outside of this file
    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


def _members(reader: "_Reader", arrays: frozenset[str]) -> Iterator[tuple[str, Any]]:
    reader.expect("{")
    if reader.peek() == "}":
        return
    while True:
        key = reader.value()
        reader.expect(":")
        if key in arrays and reader.peek() == "[":
            reader.expect("[")
            while reader.peek() != "]":
                yield key, reader.value()
                if reader.peek() != "]":
                    reader.expect(",")
            reader.expect("]")
        else:
            yield str(key), reader.value()
        if reader.peek() == "}":
            return
        reader.expect(",")


class _Reader:
    """Text of a file with a position in it."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._text = ""
        self._at = 0
        self._before = 0
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            found = _NO_SPACE.search(self._text, self._at)
            self._at = len(self._text) if found is None else found.start()
            if found is not None or not self._more():
                return self._text[self._at : self._at + 1]

    def expect(self, character: str) -> None:
        if self.peek() != character:
            raise _Damaged(f"{character!r} is missing", self._before + self._at)
        self._at += 1

    def value(self) -> Any:
        """The value that begins here."""
        self.peek()
        while True:
            try:
                found, end = self._decoder.raw_decode(self._text, self._at)
            except ValueError as error:
                if self._more():
                    continue
                raise _Damaged(str(error).partition(":")[0].lower(), self._before + self._at) from None
            if end == len(self._text) and self._more():  # a number may go on
                continue
            self._at = end
            return found

    def _more(self) -> bool:
        """Read on; twice as much each time, so that a long value is not tried again for every block."""
        kept = len(self._text) - self._at
        if kept > _LONGEST:
            raise _Damaged(f"a value of more than {_LONGEST:,} characters", self._before + self._at)
        block = self._file.read(max(_BLOCK, kept))
        self._before += self._at
        self._text, self._at = self._text[self._at :] + block, 0
        return bool(block)
