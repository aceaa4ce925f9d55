import ast
import inspect
import subprocess
import sys
from importlib import import_module

import pytest

import polyscale


def modules_after(code):
    """The names of all modules that a fresh interpreter has imported after ``code``."""
    script = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    return subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()


def test_importing_the_package_imports_nothing_heavy():
    assert not {"torch", "numpy", "pydantic", "timm"} & set(modules_after("import polyscale"))


def test_a_public_name_loads_its_home_only():
    modules = modules_after("from polyscale import LabelSpace")
    assert "polyscale.labels" in modules
    assert "torch" not in modules


@pytest.mark.parametrize("name", sorted(set(polyscale.__all__) - {"__version__"}))
def test_every_public_name_is_there(name):
    value = getattr(polyscale, name)
    assert callable(value)
    assert getattr(import_module(polyscale._HOMES[name]), name) is value


def test_names_are_listed_and_others_refused():
    assert set(dir(polyscale)) >= {"LabelSpace", "load", "train", "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        polyscale.trian  # noqa: B018


def test_type_checkers_see_every_name():
    """The names that load lazily are imported for type checkers too, from the same homes."""
    tree = ast.parse(inspect.getsource(polyscale))
    seen = {
        alias.name: node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert {name: seen.get(name) for name in polyscale._HOMES} == polyscale._HOMES
    assert sorted({*polyscale._HOMES, "__version__"}) == sorted(polyscale.__all__)
