"""Write docs/reference/recipe.md and docs/reference/cli.md from the code.

    python docs/generate.py            # write them
    python docs/generate.py --check    # fail where they are not current

What a key or an option means stands once, beside it in the code.
"""

import ast
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from pydantic.fields import FieldInfo

from polyscale.cli.app import app
from polyscale.config import Config
from polyscale.labels import LabelSpace
from polyscale.training import ExperimentConfig

FOLDER = Path(__file__).parent / "reference"
HEAD = "<!-- Written by `make docs` from the code: change it there. -->\n\n"
WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path", Any: "anything"}
SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


INTRO = """# Recipes

A recipe is one or more YAML files; a later file changes keys of an earlier one, and `key=value` on the command line
changes single keys: `training.optimizer.lr=5e-3`. Unknown keys are errors. A run's folder holds its `config.yaml` with
every default filled in. How to write one: [tutorial](../tutorial.md).

"""


def recipe() -> str:
    """Every key that a recipe and a label space may have."""
    parts = [INTRO, *(section(title, model) for title, model in sections(ExperimentConfig, "The whole recipe"))]
    parts.append("# Label spaces\n\n`label_space.yaml` beside the images, or the file that `label_space` names.\n\n")
    parts += [section(title, model) for title, model in sections(LabelSpace, "The file")]
    return HEAD + "".join(parts).rstrip() + "\n"


def sections(root: type[Config], title: str) -> Iterator[tuple[str, type[Config]]]:
    """Each model below ``root`` once, with the place where it is first met."""
    waiting, met = [(title, "", root)], {root}
    while waiting:
        title, place, model = waiting.pop(0)
        yield title, model
        below = []
        for name, field in model.model_fields.items():
            inside = [other for other in dict.fromkeys(models(field.annotation)) if other not in met]
            for other in inside:
                kinds = get_args(other.model_fields["kind"].annotation) if len(inside) > 1 else ()
                told = f", kind {', '.join(f'`{kind}`' for kind in kinds)}" if kinds else ""
                below.append((f"`{place}{name}`{told}", f"{place}{name}.", other))
            met.update(inside)
        waiting = below + waiting


def models(annotation: Any) -> Iterator[type[Config]]:
    """The models that an annotation may hold."""
    if isinstance(annotation, type) and not get_args(annotation) and issubclass(annotation, Config):
        yield annotation
    for part in get_args(annotation):
        yield from models(part)


def section(title: str, model: type[Config]) -> str:
    """A heading, what the model is for, and its keys."""
    meanings = docstrings(model)
    rows = [
        f"| `{name}` | {kind(field.annotation, field)} | {default(field)} | {in_cell(meanings[name])} |\n"
        for name, field in model.model_fields.items()
    ]
    intro = prose(inspect.getdoc(model) or "").partition("\n\nExample:")[0]
    return f"## {title}\n\n{intro}\n\n| key | value | default | meaning |\n|---|---|---|---|\n{''.join(rows)}\n"


def docstrings(model: type[Config]) -> dict[str, str]:
    """Field -> the text below it in the code, of the model or what it inherits from.

    Raises:
        SystemExit: a field has none.
    """
    found = {"kind": "Which of them."}
    for base in reversed(model.__mro__):
        if base is Config or not issubclass(base, Config):
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                found[field.target.id] = inspect.cleandoc(ast.literal_eval(text.value))
    if missing := [name for name in model.model_fields if name not in found]:
        raise SystemExit(f"error: {model.__name__}.{missing[0]} has no docstring below it")
    return found


def kind(annotation: Any, field: FieldInfo | None = None) -> str:
    """What a value may be, in words."""
    limits = [] if field is None else field.metadata
    if get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        limits = [*limits, *(part for item in more for part in getattr(item, "metadata", [item]))]
    bounds = [f"{sign} {getattr(limit, key)}" for limit in limits for key, sign in SIGNS.items() if hasattr(limit, key)]
    words, *or_else = plain_kind(annotation).split(" or null")
    return " ".join([words, *bounds]) + " or null" * len(or_else)


def plain_kind(annotation: Any) -> str:
    """``kind`` without limits."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(kind(part) for part in parts))
    if origin is tuple and parts[-1] is Ellipsis:
        return f"list of {kind(parts[0])}"
    if origin is tuple:
        return "[" + ", ".join(kind(part) for part in parts) + "]"
    if origin is dict:
        return f"mapping of names to {kind(parts[1])}"
    if annotation is NoneType:
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return "mapping, see below"
    return WORDS[annotation]


def default(field: FieldInfo) -> str:
    """The default as YAML would have it; nothing where the keys below have their own."""
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    return "" if isinstance(value, Config) else f"`{json.dumps(value, default=str)}`"


def cli() -> str:
    """Every command with its arguments and options."""
    parts = ["# Commands\n\n`polyscale COMMAND --help` shows the same on the terminal.\n\n"]
    parts += [command_section(path, function) for path, function in commands("polyscale", app)]
    return HEAD + "".join(parts).rstrip() + "\n"


def commands(path: str, group: typer.Typer) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Each command's words and function, in the order of the help."""
    if group.registered_callback is not None:
        yield path, group.registered_callback.callback
    for command in group.registered_commands:
        yield f"{path} {command.name}", command.callback
    for inner in group.registered_groups:
        yield from commands(f"{path} {inner.name}", inner.typer_instance)


def command_section(path: str, function: Callable[..., Any]) -> str:
    """A heading, how the command is called, what it does, and its arguments and options."""
    usage, rows = [path], []
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        annotation, told = get_args(hints[name])
        metavar = told.metavar or name.upper()
        if isinstance(told, typer.models.ArgumentInfo):
            usage.append(metavar)
            rows.append(f"| `{metavar}` | {in_cell(told.help)} |\n")
            continue
        # In ``Annotated`` typer takes an option's first name for a default.
        given = [*([told.default] if isinstance(told.default, str) else []), *(told.param_decls or ())]
        names = ", ".join(given or [f"--{name.replace('_', '-')}"])
        flag = annotation is bool or set(get_args(annotation)) == {bool, NoneType}
        value = "" if flag else " " + (told.metavar or choices(annotation) or name.upper())
        needed = parameter.default is inspect.Parameter.empty
        usage += [f"{names}{value}"] if needed else []
        option = f"{names}{value}".replace("|", "\\|")
        rows.append(f"| `{option}` | {in_cell(told.help)}{option_default(parameter)} |\n")
    table = f"| | |\n|---|---|\n{''.join(rows)}\n" if rows else ""
    return f"## {path}\n\n```\n{' '.join(usage)}\n```\n\n{prose(inspect.getdoc(function) or '')}\n\n{table}"


def choices(annotation: Any) -> str:
    """``a|b`` of an enumeration, and nothing of other types."""
    is_enum = isinstance(annotation, type) and issubclass(annotation, Enum)
    return "|".join(str(member.value) for member in annotation) if is_enum else ""


def option_default(parameter: inspect.Parameter) -> str:
    """The default where it says something."""
    value = parameter.default.value if isinstance(parameter.default, Enum) else parameter.default
    silent = value is None or isinstance(value, bool) or value in ("", inspect.Parameter.empty)
    return "" if silent else f" Default: `{value}`."


def prose(text: str) -> str:
    """A docstring as Markdown: single backquotes, each paragraph on one line."""
    paragraphs = re.split(r"\n\s*\n", text.replace("``", "`"))
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def in_cell(text: str | None) -> str:
    """One line that may stand in a table."""
    return " ".join((text or "").replace("``", "`").replace("|", "\\|").split())


def main() -> int:
    """Write the pages, or compare."""
    pages = {FOLDER / "recipe.md": recipe(), FOLDER / "cli.md": cli()}
    if sys.argv[1:] == ["--check"]:
        old = [path.name for path, text in pages.items() if not path.is_file() or path.read_text("utf-8") != text]
        if old:
            print(f"error: docs/reference/{', '.join(old)} is not what the code says; run `make docs`", file=sys.stderr)
        return bool(old)
    FOLDER.mkdir(exist_ok=True)
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
