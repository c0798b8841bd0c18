"""For tests: `python -c` in milliseconds, forked off a process that has loaded torch already.

Loading torch, TensorBoard and matplotlib takes 5 s of CPU (measured), more than what most tests
have to do once that is done. The process they are forked from is multiprocessing's fork server: it
never runs an operation of torch, so that no thread of it is missing in a fork.
"""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

SERVER = multiprocessing.get_context("forkserver")
LATER = (
    "torch._dynamo", "torch.utils.tensorboard", "tyro",
    "trainloop.curves", "trainloop.run", "trainloop.study",
)  # fmt: skip
"""What a training imports on its way; here once, instead of in each fork. An optimiser alone asks
for torch._dynamo: 2 s of CPU."""
SERVER.set_forkserver_preload(["__main__", *LATER])


class ForkedPython(subprocess.Popen):
    """What subprocess.Popen([sys.executable, "-c", CODE, *WORDS]) would be, as far as it is used.

    Its parent is the fork server. Output goes to files, or to nowhere.
    """

    _child_created = False  # by subprocess: nothing for it to look after

    def __init__(
        self,
        command: list[str],
        env: dict[str, str] | None = None,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session: bool = False,
    ) -> None:
        self.args = command
        executable, flag, code, *words = map(str, command)
        assert (executable, flag) == (sys.executable, "-c")
        files = [os.devnull if out == subprocess.DEVNULL else out.name for out in (stdout, stderr)]
        environment = dict(os.environ if env is None else env)
        self._process = SERVER.Process(
            target=_become, args=(code, words, environment, files, start_new_session)
        )
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code; the negative signal that ended it; None as long as it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | int | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("a fork", timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


def run_forked(code: str, *words: str, env: dict[str, str] | None = None):
    """As subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)."""
    with TemporaryDirectory() as home:
        paths = [Path(home, name) for name in ("stdout", "stderr")]
        with paths[0].open("w") as out, paths[1].open("w") as err:
            process = ForkedPython([sys.executable, "-c", code, *words], env, out, err)
            process.wait()
        return subprocess.CompletedProcess(
            code, process.returncode, *(path.read_text("utf-8") for path in paths)
        )


def _become(
    code: str, words: list[str], environment: dict[str, str], files: list[str], alone: bool
) -> None:
    """In the fork: be that program."""
    import torch

    if alone:
        os.setsid()
    for number, path in enumerate(files, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    if "OMP_NUM_THREADS" in environment:  # torch read the server's when it was loaded
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    sys.argv = ["-c", *words]
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
