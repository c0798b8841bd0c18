"""Fixtures of trainloop's tests."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for runs."""
    monkeypatch.setenv("LAB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture(scope="session")
def toy():
    """The module toy.py beside this file, which is a script too."""
    spec = importlib.util.spec_from_file_location("toy", Path(__file__).with_name("toy.py"))
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["toy"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
