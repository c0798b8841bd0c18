"""For all tests: which processes run them, and trainloop first, since it sets up OpenMP."""

import gc
import os
from collections.abc import Callable, Iterator

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

    trainloop's files share nothing. (xdist's `loadgroup` does nothing under pytest 9.2.)
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        project = path.partition("/tests/")[0]
        return path if project == "shared" else project


# What starts a training in most of its tests. As parts that last longest these come first, then the
# projects, then trainloop's quick files, so that the processes end together. xdist on its own
# would begin with what has the most tests (`--no-loadscope-reorder` keeps it from that).
SLOW = ("test_trust.py", "test_study.py", "test_run.py", "test_new.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=turn)


def turn(item: pytest.Item) -> int:
    if not item.nodeid.startswith("shared/"):
        return 1
    return 0 if item.path.name in SLOW else 2


@pytest.fixture(scope="session", autouse=True)
def plot_curves() -> Iterator[Callable]:
    """What draws curves.png, which trainings in tests do without unless they are asked for it.

    It takes 0.4 s of CPU (measured), as long as many a training here.
    """
    from trainloop import curves

    with pytest.MonkeyPatch.context() as patch:
        draw = curves.plot_curves
        patch.setattr(curves, "plot_curves", lambda path: None)
        yield draw


@pytest.fixture
def curves(plot_curves: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """This test's trainings end with curves.png, as a user's do."""
    monkeypatch.setattr("trainloop.curves.plot_curves", plot_curves)


def pytest_collection_finish() -> None:
    """Modules and tests stay to the end: the garbage collector need not look at them again."""
    gc.collect()
    gc.freeze()
