"""For all tests: how many processes share them, and trainloop first, since it sets up OpenMP."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # processes share the cores; their threads would only wait
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

import trainloop  # noqa: F401


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """All the tests take a process for each core; a part of them is not worth starting any for."""
    everything = config.args == config.getini("testpaths")
    return (os.cpu_count() or 1) if everything else 0
