"""Work for all cores, with results in the order of the jobs."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context

from trainloop import LabError

THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def in_order[Job, Result](
    function: Callable[[Job], Result], jobs: Sequence[Job], workers: int = 0
) -> Iterator[Iterator[Result]]:
    """`function` of every job, computed by so many processes (0: one for each core).

    Leaving the block early drops the jobs that have not begun. One worker works in this process.

    Raises:
        LabError: a process was killed.
    """
    workers = min(workers or len(os.sched_getaffinity(0)), max(1, len(jobs)))
    if workers == 1:
        yield map(function, jobs)
        return
    before = {name: os.environ.get(name) for name in THREAD_LIMITS}
    os.environ.update(dict.fromkeys(THREAD_LIMITS, "1"))  # read by NumPy in the new processes
    # Not forked: whoever calls may have torch's threads, of which a fork would inherit the locks.
    pool = ProcessPoolExecutor(workers, get_context("spawn"))
    try:
        with _deaf_to_ctrl_c():
            results = pool.map(function, jobs)  # starts all processes
        yield results
    except BrokenProcessPool:
        raise LabError(
            "a worker process was killed (no memory left?): run the same again, finished sheets "
            "stay; --workers 1 needs the least"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """What is started inside never hears of Ctrl-C, which reaches the whole group.

    A worker ends its sheet, its parent asks for no more. Ignored signals stay ignored in a new
    program, so this holds from its first instruction on; a handler would come after its imports.
    """
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread: somebody else's business
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
