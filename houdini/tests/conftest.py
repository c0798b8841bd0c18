"""Fixtures of several test files here."""

import pytest

from houdini_bridge import table


@pytest.fixture(scope="session")
def text() -> str:
    """table.csv of seed 0, made once: it takes seconds."""
    return table.generate(0)


@pytest.fixture
def quick(monkeypatch, text) -> None:
    """The rows of every seed are seed 0's."""
    monkeypatch.setattr(table, "generate", lambda seed: text)
