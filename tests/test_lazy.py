import ast
import inspect
from importlib import import_module

import pytest

PACKAGES = ["polyscale.autolabel", "polyscale.crops", "polyscale.data"]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_loads_and_others_are_refused(package):
    module = import_module(package)
    assert dir(module) == sorted(module.__all__)
    assert [name for name in module.__all__ if getattr(module, name, None) is None] == []
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_every_name_in_the_same_home(package):
    module = import_module(package)
    nodes = [node for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.ImportFrom)]
    seen = {(node.module, alias.name) for node in nodes if node.module != "polyscale.lazy" for alias in node.names}
    homes = {(f"{package}.{home}", name) for home, names in module._HOMES.items() for name in names}
    assert homes <= seen
    assert {name for _, name in homes} == set(module.__all__)
