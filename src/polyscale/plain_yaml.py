"""YAML as plain values: text, numbers, true and false, null, lists and mappings, each as a person would read it.

YAML 1.1, which PyYAML follows, reads ``5e-3`` as text, ``010`` as eight, ``1:30`` as ninety, ``2026-01-02`` as a date
and ``on`` as true. Here PyYAML only gives the tree of nodes, and the table below says what a scalar means. A tag in the
text (``!!int x``) is one more way to ask for a row of that table; all others are refused.
"""

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from polyscale.errors import UserError

__all__ = ["dump_yaml", "parse_yaml", "read_yaml"]

MAX_BYTES = 4_000_000
"""Largest size of a file, which takes ten seconds to read. A configuration has a few thousand bytes."""

_INT = re.compile(r"[-+]?(?:0|[1-9]\d{0,99})|0x[0-9a-fA-F]{1,80}")
_LONG = re.compile(r"[-+]?[1-9]\d{100,}|0x[0-9a-fA-F]{81,}")
_FLOAT = re.compile(r"[-+]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(?:inf|Inf|INF|nan|NaN|NAN))")
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """Gives nodes that keep the tags of the text; all other scalars have the same tag."""

    DEFAULT_SCALAR_TAG = "no tag"  # type: ignore[misc]
    # Only the merge key is told from other plain text.
    yaml_implicit_resolvers = {"<": yaml.SafeLoader.yaml_implicit_resolvers["<"]}  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    """``yaml.SafeDumper`` that also quotes text which would be read as a number here."""


_Dumper.add_implicit_resolver(f"{_TAG}float", re.compile(f"^(?:{_FLOAT.pattern})$"), list("-+.0123456789"))


def read_yaml(path: str | Path) -> Any:
    """Read one YAML file.

    Raises:
        UserError: the file is missing, unreadable or not YAML.
    """
    path = Path(path)
    try:
        kind = path.stat()
        if not (stat.S_ISREG(kind.st_mode) or stat.S_ISDIR(kind.st_mode)):
            raise UserError(f"cannot read {path}: it is a pipe or a device; name a file")
        if kind.st_size > MAX_BYTES:
            raise UserError(f"cannot read {path}: it has {kind.st_size / 1e6:.0f} MB, a configuration at most 4 MB")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; name a file that you may read") from None
    except UnicodeDecodeError:
        raise UserError(f"cannot read {path}: it is not text in UTF-8; save it as UTF-8") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """The plain values that a text holds.

    Args:
        text: one YAML document.
        where: the text's origin, for messages.

    Raises:
        UserError: it is not YAML, or holds something else than plain values; one line with the key.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
        # Without aliases a text cannot have more values than characters.
        return None if node is None else _Reader(max(10_000, len(text))).value(node)
    except _RefusedError as error:
        raise UserError(f"{where} {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        mark = getattr(error, "problem_mark", None)
        at = f" line {mark.line + 1}" if mark is not None else ""
        raise UserError(f"{where}{at} is not valid YAML: {reason}") from None


def dump_yaml(value: Any) -> str:
    """YAML text of plain values, keys in the order given; ``read_yaml`` and any other reader give equal values."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


class _RefusedError(Exception):
    def __init__(self, node: Any, keys: list[str], reason: str) -> None:
        key = f", key {'.'.join(keys)}" if keys else ""
        super().__init__(f"line {node.start_mark.line + 1}{key}: {reason}")


class _Reader:
    """Turns nodes into values, a given number at most: aliases of aliases multiply."""

    def __init__(self, allowed: int) -> None:
        self.left = allowed
        self.keys: list[str] = []  # on the way to the node at hand

    def value(self, node: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise _RefusedError(node, self.keys, "its aliases (*name) unfold to too many values; write them out")
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self._under(str(index), item) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return dict(self.entries(node))
        raise self._bad_tag(node)

    def entries(self, node: Any) -> Iterator[tuple[Any, Any]]:
        """Keys and values: first those that ``<<`` merges in, then the mapping's own, which win."""
        if not isinstance(node, yaml.MappingNode):
            raise _RefusedError(node, self.keys, "<< merges a mapping or a list of mappings")
        own: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                merged = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for other in reversed(merged):
                    yield from self.entries(other)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise _RefusedError(key_node, self.keys, "a key is a word or a number, not a list or a mapping")
            key = self.scalar(key_node)
            if key in own:
                raise _RefusedError(key_node, self.keys, f"key {key!r} is given twice")
            own[key] = self._under(str(key), value_node)
        yield from own.items()

    def scalar(self, node: Any) -> Any:
        text, kind = node.value, node.tag.removeprefix(_TAG)
        plain = node.style is None and kind == "no tag"
        if kind == "null" or (plain and text in ("", "~", "null", "Null", "NULL")):
            return None
        if (kind == "bool" or plain) and text in _BOOLS:
            return _BOOLS[text]
        if (kind == "int" or plain) and _INT.fullmatch(text):
            return int(text, 16 if text.startswith("0x") else 10)
        if (kind == "float" or plain) and _FLOAT.fullmatch(text):
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        if plain and _LONG.fullmatch(text):
            raise _RefusedError(node, self.keys, f"a number of {len(text)} digits is too long")
        if kind in ("str", "no tag"):
            return text
        raise self._bad_tag(node)

    def _under(self, key: str, node: Any) -> Any:
        self.keys.append(key[:40])
        value = self.value(node)
        self.keys.pop()
        return value

    def _bad_tag(self, node: Any) -> _RefusedError:
        tag = node.tag.replace(_TAG, "!!")[:40]
        given = f" {node.value[:40]!r}" if isinstance(node, yaml.ScalarNode) else ""
        return _RefusedError(node, self.keys, f"{tag}{given} is not a plain value; leave the tag out")
