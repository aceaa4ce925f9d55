"""Gives the tests ``fakes.py``, which is also a program and therefore no test module."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def fakes():
    """The module beside this one."""
    spec = importlib.util.spec_from_file_location("evaluation_fakes", Path(__file__).with_name("fakes.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
