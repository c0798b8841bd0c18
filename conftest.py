"""For all tests: which processes run them, and trainloop first, since it sets up OpenMP."""

import gc
import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # processes share the cores; their threads would only wait
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

import trainloop  # noqa: F401


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """All the tests take a process for each core; a part of them is not worth starting any for."""
    everything = config.args == config.getini("testpaths")
    return (os.cpu_count() or 1) if everything else 0


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A project's tests stay in one process, which makes what they share once; trainloop's do not.

    trainloop's files share nothing. xdist begins with what has the most tests, so that these small
    parts come last and the processes end together.
    """
    for item in items:
        folder = Path(item.path).parent.parent.relative_to(config.rootpath)
        group = item.path.name if folder.name == "shared" else folder.as_posix()
        item.add_marker(pytest.mark.xdist_group(group))


def pytest_collection_finish() -> None:
    """Modules and tests stay to the end: the garbage collector need not look at them again."""
    gc.collect()
    gc.freeze()
