"""For all tests: which processes run them, and trainloop first, since it sets up OpenMP."""

import gc
import os

import pytest
from xdist.scheduler import LoadScopeScheduling

import trainloop  # noqa: F401


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """All the tests take a process for each core; a part of them is not worth starting any for."""
    everything = config.args == config.getini("testpaths")
    return (os.cpu_count() or 1) if everything else 0


def pytest_xdist_setupnodes() -> None:
    """Processes share the cores; their threads would only wait for one another, and spin.

    Set before they start: where a plugin has loaded NumPy, its BLAS has its threads already.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    return ByProject(config, log)


class ByProject(LoadScopeScheduling):
    """A project's tests stay in one process, which makes what they share once; trainloop's do not.

    trainloop's files share nothing. xdist begins with what has the most tests, so that these small
    parts come last and the processes end together. (Its `loadgroup` does nothing under pytest 9.2.)
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        project = path.partition("/tests/")[0]
        return path if project == "shared" else project


def pytest_collection_finish() -> None:
    """Modules and tests stay to the end: the garbage collector need not look at them again."""
    gc.collect()
    gc.freeze()
