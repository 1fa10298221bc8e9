"""Metadata of the shared test package, for packages that tests of the command line make themselves."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def package_metadata() -> Callable[..., dict]:
    """The function of the shared conftest that makes metadata; test folders are no packages that could import it."""
    spec = importlib.util.spec_from_file_location("shared_conftest", Path(__file__).parents[2] / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.metadata
