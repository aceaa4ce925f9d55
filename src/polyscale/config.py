"""Configuration: frozen models with unknown keys refused, YAML files in order, then ``key=value`` overrides."""

import inspect
import re
import reprlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from polyscale.errors import UserError, nearest, unknown
from polyscale.plain_yaml import dump_yaml, parse_yaml, read_yaml

__all__ = [
    "Config",
    "construct",
    "dump_yaml",
    "flat",
    "import_path",
    "is_import_path",
    "load_config",
    "name_or_import_path",
    "read_yaml",
    "validate",
]


class Config(BaseModel):
    """Base of all configuration: immutable, and an unknown key is an error rather than a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


ConfigT = TypeVar("ConfigT", bound=BaseModel)
ObjectT = TypeVar("ObjectT")

_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_import_path(text: str) -> bool:
    """Whether a text has the form ``package.module:Name``; nothing is imported."""
    return _IMPORT_PATH.fullmatch(text) is not None


def import_path(text: str) -> Any:
    """Import what ``package.module:Name`` names. This runs the module's code, so only the user may choose the text.

    Example:
        >>> import_path("polyscale.labels:IGNORE")
        255

    Raises:
        UserError: the text has another form, there is no such module or no such name in it, or importing it fails.
    """
    if not is_import_path(text):
        raise UserError(f"{text!r} is no import path; write package.module:Name")
    module_name, _, name = text.partition(":")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise UserError(f"cannot import {module_name} for {text}: {error}") from error
        raise UserError(
            f"there is no module {error.name!r} for {text}; install its package, or let PYTHONPATH name its folder"
        ) from None
    except Exception as error:  # the module's own code
        raise UserError(f"cannot import {module_name} for {text}: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        hint = nearest(name, (known for known in vars(module) if not known.startswith("_")))
        raise UserError(f"module {module_name!r} has no {name!r}{hint}")
    return getattr(module, name)


def construct(path: str, base: type[ObjectT], options: Mapping[str, Any], **arguments: Any) -> ObjectT:
    """Import a user's class and make an object of it.

    Args:
        path: ``package.module:Name`` of the class.
        base: what it must be a subclass of. A recipe can thus not name any function to be called.
        options: keyword arguments from the recipe.
        arguments: further keyword arguments.

    Raises:
        UserError: it cannot be imported, is no such class, or does not take these options.
    """
    kind = import_path(path)
    if not (isinstance(kind, type) and issubclass(kind, base)):
        home = base.__module__.rpartition(".")[0]
        raise UserError(f"{path} is no subclass of {home}.{base.__name__}, whose docstring says what is asked of it")
    try:
        inspect.signature(kind).bind(**arguments, **options)
    except TypeError as error:
        raise UserError(f"{path} does not take these options: {error}") from None
    return kind(**arguments, **options)


def name_or_import_path(what: str, known: Collection[str]) -> AfterValidator:
    """Let a field be one of ``known`` names or the import path of a user's own class.

    Args:
        what: the thing that is named, for messages.
        known: names of those in the package.
    """

    def check(name: str) -> str:
        if name in known or is_import_path(name):
            return name
        raise ValueError(f"{unknown(what, name, known)}, or the import path package.module:Name of your own")

    return AfterValidator(check)


def load_config(
    kind: type[ConfigT],
    files: Sequence[str | Path],
    overrides: Sequence[str] = (),
    base: Mapping[str, Any] | None = None,
) -> ConfigT:
    """Merge YAML files in order, apply ``a.b=value`` overrides, then validate.

    A mapping merges into a mapping; anything else replaces. A value in an override is read as YAML (``lr=5e-3``,
    ``scales=[0.5,1]``). Where a mapping names its ``kind`` and a later file or the overrides change it, the mapping is
    replaced: keys of another kind would not fit. The overrides are one layer, so their order does not matter. ``base``
    lies below the files.

    Raises:
        UserError: a missing file, bad YAML, an unknown key or a value that is not allowed; one line each.
    """
    merged: dict[str, Any] = dict(base or {})
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
        value: Any = parse_yaml(text, f"override {override!r}")
        for part in reversed(key.strip().split(".")):
            value = {part: value}
        layer = _merge(layer, value)
    return validate(kind, _merge(merged, layer))


def flat(values: Mapping[str, Any], separator: str = ".") -> dict[str, Any]:
    """Mappings within a mapping as one, whose keys are paths.

    Example:
        >>> flat({"optimizer": {"lr": 0.1, "nesterov": True}, "epochs": 3})
        {'optimizer.lr': 0.1, 'optimizer.nesterov': True, 'epochs': 3}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = flat(value, separator) if isinstance(value, Mapping) else None
        found |= {key: value} if inner is None else {f"{key}{separator}{below}": x for below, x in inner.items()}
    return found


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


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
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
        fields = models[0].model_fields if models else {}
        hint = nearest(keys[-1], fields) or _elsewhere(keys[-1], kind)
        hint = "" if f"{key!r}" in hint else hint  # another kind has the key at the same place
        return f"unknown key {key[:100]!r}{hint}; allowed here: {', '.join(fields)}"
    if problem["type"] == "missing":
        return f"key {key!r} is missing"
    message = _IN_YAML.get(problem["type"]) or str(problem["msg"]).removeprefix("Value error, ")
    message = re.sub("^Input should be", "must be", message)
    given = problem.get("input")
    value = _SHORT.repr(given)
    if problem["type"] in ("literal_error", "union_tag_invalid"):
        context = problem["ctx"]
        name = str(context.get("tag", given))
        message += nearest(name, re.findall("'([^']*)'", str(context.get("expected", context.get("expected_tags")))))
    shown = "" if len(value) > 60 or not location else f" (not {value})"
    shown += "; in YAML a space follows the colon" if given is None and ":" in key else ""  # {bus:3}
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


def _elsewhere(name: str, kind: type[BaseModel]) -> str:
    """A hint, where another section of the configuration has a key of this name."""
    key = next((key for key in _keys(kind) if key.rpartition(".")[2] == name), None)
    return "" if key is None else f" (did you mean {key!r}?)"


def _keys(kind: type[BaseModel], before: str = "") -> Iterator[str]:
    for name, field in kind.model_fields.items():
        yield before + name
        for model in _models_in(field.annotation):
            yield from _keys(model, f"{before}{name}.")


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
