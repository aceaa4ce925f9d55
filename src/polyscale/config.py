"""Configuration: frozen models with unknown keys refused, YAML files in order, then ``key=value`` overrides.

Unusual here: YAML 1.1 reads ``5e-3`` as text, ``010`` as eight, ``1:30`` as ninety, ``2026-01-02`` as a date and
``on`` as a boolean; the loader below reads numbers as a person would and leaves the rest as text.
"""

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from polyscale.errors import UserError

__all__ = [
    "Config",
    "dump_yaml",
    "import_path",
    "load_config",
    "read_yaml",
    "validate",
]


class Config(BaseModel):
    """Base of all configuration: immutable, and an unknown key is an error rather than a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


ConfigT = TypeVar("ConfigT", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """``yaml.SafeLoader`` with YAML 1.2's numbers and booleans, no dates, and duplicate keys refused."""


_REDEFINED = tuple(f"tag:yaml.org,2002:{name}" for name in ("bool", "float", "int", "timestamp"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REDEFINED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^(?:[-+]?(?:0|[1-9]\d*)|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_FLOAT = re.compile(r"^[-+]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(?:inf|Inf|INF|nan|NaN|NAN))$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def _mapping_without_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        if isinstance(key_node, yaml.ScalarNode) and key_node.value != "<<":
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key_node.value!r} is given twice", key_node.start_mark
                )
            seen.add(key_node.value)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_duplicates)


class _Dumper(yaml.SafeDumper):
    """``yaml.SafeDumper`` that also quotes text which the loader above would read as a number."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def read_yaml(path: str | Path) -> Any:
    """Read one YAML file.

    Raises:
        UserError: the file is missing, unreadable or not YAML.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UserError(f"cannot read {path}: it is not text in UTF-8; save it as UTF-8") from None
    return _parse(text, str(path))


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        mark = getattr(error, "problem_mark", None)
        at = f" line {mark.line + 1}" if mark is not None else ""
        raise UserError(f"{where}{at} is not valid YAML: {reason}") from None


def dump_yaml(value: Any) -> str:
    """YAML text of plain values, keys in the order given; ``read_yaml`` and any other reader give equal values."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


def import_path(text: str) -> Any:
    """The object that ``module:name`` names; importing a module runs its code.

    Raises:
        UserError: the text has another form, or there is no such module or name.

    Example:
        >>> import_path("math:floor")(2.5)
        2
    """
    if not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", text):
        raise UserError(f"{text!r} is not of the form module:name, for example my_package.losses:my_loss")
    module, _, name = text.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"cannot import {text}: {error}; install the package, or put its folder on PYTHONPATH"
        ) from None
    for part in name.split("."):
        if not hasattr(found, part):
            raise UserError(f"module {module} has no {name}; it is named in {text}")
        found = getattr(found, part)
    return found


def load_config(kind: type[ConfigT], files: Sequence[str | Path], overrides: Sequence[str] = ()) -> ConfigT:
    """Merge YAML files in order, apply ``a.b=value`` overrides, then validate.

    A mapping merges into a mapping; anything else replaces. A value in an override is read as YAML (``lr=5e-3``,
    ``scales=[0.5,1]``). Where a mapping names its ``kind`` and a later file or the overrides change it, the mapping is
    replaced: keys of another kind would not fit. The overrides are one layer, so their order does not matter.

    Raises:
        UserError: a missing file, bad YAML, an unknown key or a value that is not allowed; one line each.
    """
    merged: dict[str, Any] = {}
    for path in files:
        content = read_yaml(path)
        if content is None:
            continue
        if not isinstance(content, dict):
            raise UserError(f"{path} must hold keys and values, but holds a {type(content).__name__}")
        merged = _merge(merged, content)
    layer: dict[str, Any] = {}
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise UserError(f"override {override!r} is not of the form key=value, for example training.epochs=10")
        value: Any = _parse(text, f"override {override!r}")
        for part in reversed(key.strip().split(".")):
            value = {part: value}
        layer = _merge(layer, value)
    return validate(kind, _merge(merged, layer))


def validate(kind: type[ConfigT], values: Any) -> ConfigT:
    """Validate plain values into a configuration.

    Raises:
        UserError: all problems in one line, each with its key.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False)
        # Of a list whose items are wrong pydantic also says that it is too short.
        faulty = {problem["loc"][:place] for problem in found for place in range(len(problem["loc"]))}
        found = [problem for problem in found if problem["type"] != "too_short" or problem["loc"] not in faulty]
        problems = [_describe(kind, problem) for problem in found]
        for place, following in enumerate(problems[1:]):
            told, separator, allowed = problems[place].partition("; allowed here: ")
            if separator and following.endswith(separator + allowed):
                problems[place] = told  # the same list need not be read twice
        raise UserError("; ".join(problems)) from None


# What pydantic says in terms of Python.
_IN_YAML = {
    "tuple_type": "must be a list in brackets",
    "list_type": "must be a list in brackets",
    "model_type": "must be a mapping of keys to values",
    "dict_type": "must be a mapping of keys to values",
    "too_short": "has too few entries",
    "path_type": "must be a path",
}
_UNION_MEMBER = re.compile(r"(literal|tuple|list|dict|constrained-\w+|str|int|float|bool)(\[.*\])?")


def _describe(kind: type[BaseModel], problem: Any) -> str:
    location = [part for part in problem["loc"] if not str(part).startswith("function-")]
    keys, _ = _follow(kind, location)
    key = ".".join(keys)
    if problem["type"] == "extra_forbidden":
        _, models = _follow(kind, location[:-1])
        allowed = f"; allowed here: {', '.join(models[0].model_fields)}" if models else ""
        return f"unknown key {key!r}{allowed}"
    if problem["type"] == "missing":
        return f"key {key!r} is missing"
    message = _IN_YAML.get(problem["type"]) or str(problem["msg"]).removeprefix("Value error, ")
    value = repr(problem.get("input"))
    shown = "" if len(value) > 60 or not location else f" (not {value})"
    shown += "; in YAML a space follows the colon" if problem.get("input") is None and ":" in key else ""  # {bus:3}
    return f"{key}: {message}{shown}" if key else message


def _follow(kind: Any, location: Sequence[Any]) -> tuple[list[str], list[Any]]:
    """The keys of ``location`` as the user wrote them, and the models to which they may lead."""
    keys: list[str] = []
    models = [kind]
    for part in location:
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        tagged = [model for model in models if part in _tags(model)]
        if not fields and (tagged or _UNION_MEMBER.fullmatch(str(part))):
            models = tagged or models  # within a union pydantic puts the tag or the type's name into the location
            continue
        keys.append(str(part))
        models = [model for field in fields for model in _models_in(field.annotation)] or models
    return keys, models


def _tags(model: Any) -> tuple[str, ...]:
    field = model.model_fields.get("kind")
    return (model.__name__, str(field.default) if field is not None else "")


def _models_in(annotation: Any) -> list[Any]:
    parts = get_args(annotation)
    if parts:  # asked first: Python 3.10 takes tuple[int, ...] for a type
        return [model for part in parts for model in _models_in(part)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []


def _merge(base: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in update.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and not _changes_kind(old, value):
            result[key] = _merge(old, value)
        else:
            result[key] = value
    return result


def _changes_kind(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether both name a kind and they differ; where one leaves it out, a wrong key is refused, not lost."""
    return "kind" in old and "kind" in new and old["kind"] != new["kind"]
