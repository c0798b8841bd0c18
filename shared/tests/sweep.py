"""What becomes of every member's training when the machine does its worst: the attempts.

`python sweep.py FOLDER MEMBER...` imports torch once and forks a process for each attempt. The
parent never computes with torch, so it may be forked, and an attempt starts in milliseconds; still
each is a process of its own, with its own signals, limits and files. What became of them is written
to FOLDER/MEMBER.json, which test_trust.py holds to what the lab promises.

Where the machine allows mounts of one's own, all of it happens in a checkout that is read-only. No
picture is drawn: the members' own tests look at them, and here they were most of the work.
"""

import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import pkgutil
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import mounts
import spoil

SHORT = {
    "warmup": "--data digits --steps 4 --eval-every 2 --batch-size 32 --width 2",
    "from-scratch": "--steps 2",
    "detection": "--steps 4 --eval-every 2 --batch-size 4 --data {cups} --image-size 32 "
    "--widths 4 4 8 8",
    "diffusion": "--data digits --steps 4 --eval-every 2 --batch-size 8 --widths 8 --samples 8 "
    "--sample-steps 2 --no-pictures",
    "rl": "--steps 4 --eval-every 2 --eval-episodes 2 --hidden 8 --no-pictures",
    "active-learning": "--steps 2 --frames 90 --start 12 --query 10 --rounds 2 --width 4 "
    "--batch-size 4 --strategies random",
    "splatting": "--steps 4 --eval-every 2 --size 16 --points 60 --max-gaussians 80 --turntable 2",
    "language-model": "--data {text} --steps 4 --eval-every 2 --batch-size 4 --block 16 "
    "--layers 1 --heads 2 --width 16 --buckets 64 --no-pictures",
    "mnist": "--steps 4 --eval-every 2 --batch-size 16 --width 2 --real 100",
    "fashion-mnist": "--steps 4 --eval-every 2 --batch-size 16 --model linear",
    "playground": "--data {drawings} --steps 4 --batch-size 8",
    "houdini": "--steps 4 --batch-size 16 --width 2 --output-dir {digits}",
}
"""The smallest real training of each member, in words."""
LESSONS = "pca", "naive_bayes", "mlp"
"""from-scratch trains lessons at their full size: the quickest ones, and one that wants MNIST."""
COMMAND = {"active-learning": "curve"}
"""What is trained where it is not `train`: that is a study there, of a process for each seed."""
NEEDS = {"mnist": "mnist", "fashion-mnist": "fashion-mnist", "houdini": "mnist"}
"""The data set that the smallest training reads; the others get an empty folder of data."""
ABSENT = {
    "warmup": "--data mnist", "from-scratch": "--steps 1", "detection": "--data voc2007",
    "diffusion": "--data mnist", "language-model": "", "mnist": "", "fashion-mnist": "",
    "playground": "", "houdini": "",
}  # fmt: skip
"""A training that wants a data set which is not here and cannot be fetched."""
ALSO_LATER = "pypi_simple", "torchvision.datasets", "PIL.GifImagePlugin", "matplotlib.animation"
"""What some members' trainings import besides `trainloop.forks.LATER`."""
READERS = {
    "detection": ["evaluate --checkpoint {bad}", "errors --checkpoint {bad}",
                  "export --checkpoint {bad}", "predict {photo} --checkpoint {bad}",
                  "train --data {cups} --image-size 32 --backbone-weights {bad}"],
    "diffusion": ["sample --checkpoint {bad}", "evaluate --checkpoint {bad}",
                  "samplers --checkpoint {bad}", "export --checkpoint {bad}"],
    "rl": ["evaluate --checkpoint {bad}", "watch --checkpoint {bad}"],
    "active-learning": ["picks --run {run}"],
    "splatting": ["evaluate --model {bad}", "export --model {bad}", "view --model {bad}"],
    "language-model": ["sample --checkpoint {bad}", "evaluate --checkpoint {bad}",
                       "look --checkpoint {bad}"],
    "mnist": ["predict {photo} --model {bad}", "export --model {bad}"],
    "fashion-mnist": ["evaluate --model-file {bad}", "export --model-file {bad}"],
    "playground": ["evaluate --model {npz}", "export --model {npz}"],
    "houdini": ["results.import_results {npz}"],
}  # fmt: skip
"""Commands that read a checkpoint, or another model or result, which the user names."""


class Sweep:
    """The attempts with one member.

    Attributes:
        home: what this member's attempts leave.
        words: of its smallest training.
        results: of each attempt its exit code (negative: the signal that ended it), its output,
            and what else is to be known.
    """

    def __init__(self, member: str, home: Path, found: dict[str, str]) -> None:
        from trainloop.datasets import load_images
        from trainloop.paths import data_dir, module_name

        self.member, self.home, self.found = member, home, found
        self.words = [word.format(**found) for word in SHORT[member].split()]
        self.data = data_dir() if member in NEEDS else Path(found["nothing"])
        self.results: dict[str, dict] = {}
        self.package = importlib.import_module(module_name(member))
        for module in pkgutil.walk_packages(self.package.__path__, f"{self.package.__name__}."):
            with contextlib.suppress(ImportError):  # a library that is an extra
                importlib.import_module(module.name)  # here, so that no attempt has to
        for split in "train", "test":
            load_images(NEEDS.get(member, "digits"), split)
        self.lighten()
        gc.collect()
        gc.freeze()  # else collecting in a child copies every page that objects lie in

    def lighten(self) -> None:
        """Make smaller what no option does."""
        from matplotlib.figure import Figure

        here = self.package
        if self.member in NEEDS:
            home = here.train if self.member == "houdini" else here.data
            load = home.load_images
            home.load_images = lambda *words: tuple(tensor[:600] for tensor in load(*words))
        if self.member in ("mnist", "fashion-mnist"):
            here.data.TRAINING_IMAGES = 400
        if self.member == "active-learning":
            here.scenes.TEST_FRAMES = 60
        elif self.member == "warmup":
            here.train.draw_confusion = here.train.draw_worst = lambda *_: Figure()
        elif self.member == "from-scratch":
            here.train.LESSONS = LESSONS
            here.pca.draw_reconstruction = here.naive_bayes.draw_model = lambda *_: Figure()
            importlib.import_module("sklearn.decomposition")  # the lessons' oracles: a second each
            importlib.import_module("sklearn.naive_bayes")
        elif self.member == "diffusion":
            here.extractor.EPOCHS["digits"] = 1
        elif self.member == "language-model":
            here.train.SAMPLE = 5

    def attempt(
        self,
        name: str,
        words: list[str],
        prepare: Callable[[], object] = lambda: None,
        runs: str = "runs",
        command: str = "",
        data: Path | None = None,
        afterwards: Callable[[], object] = lambda: None,
    ) -> dict:
        """Run a command in a process of its own, after `prepare`, and note how it ended."""
        output = self.home / f"{name}.txt"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        child = os.fork()
        if child == 0:
            with output.open("wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            os.environ |= {"LAB_RUNS": str(self.home / runs), "LAB_DATA": str(data or self.data)}
            sys.argv = ["command", *words]
            code = 0
            try:
                prepare()
                self.command(command)()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException:
                traceback.print_exc()
                code = 70  # no user should see one
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            afterwards()
            os._exit(code)
        status = os.waitpid(child, 0)[1]
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self.results[name] = {
            "code": os.waitstatus_to_exitcode(status),
            "output": output.read_text("utf-8", errors="replace"),
            "cpu": round(spent, 2),
        }
        return self.results[name]

    def command(self, name: str = "") -> Callable[[], None]:
        """An entry point; `results.import_results` is one of the module results/cli.py."""
        place, _, name = (name or COMMAND.get(self.member, "train")).rpartition(".")
        parts = filter(None, (self.package.__name__, place, "cli"))
        return getattr(importlib.import_module(".".join(parts)), name)

    def run(self) -> None:
        """All attempts, the earlier ones leaving what the later ones need."""
        whole = self.attempt("whole", self.words, self.begin_another)
        if whole["code"]:
            raise RuntimeError(f"the training itself ended with {whole['code']}: {whole['output']}")
        self.read_back("interrupted")
        shutil.copytree(self.folder("runs").resolve(), self.home / "stopped")
        self.attempt("killed", ["--resume"], lambda: signal_at(2, signal.SIGKILL))
        half = (self.home / "stopped/last.pt").stat().st_size // 2
        with self.watched("file limit", self.folder("runs").resolve()):
            self.attempt("file limit", ["--resume"], lambda: limit_files(half))
        self.attempt("resumed", ["--resume"])
        for name, act in spoil.CHECKPOINT.items():
            runs = f"resume {name}"
            folder = self.home / runs / self.member / "stopped"
            shutil.copytree(self.home / "stopped", folder)
            act(folder / "last.pt")
            with self.watched(runs, folder):
                self.attempt(runs, ["--resume"], runs=runs)
        self.disks(half)
        if self.member in ABSENT:
            nothing = Path(self.found["nothing"])
            words = ABSENT[self.member].split()
            self.attempt("no data", words, self.hinder, "no data", data=nothing)
        if self.member == "warmup":  # all open their runs as it does
            umlauts = os.fsdecode("Läufe".encode())
            self.attempt("no UTF-8", self.words, runs=umlauts)
        self.readers()

    def hinder(self) -> None:
        """No apt-get, which takes seconds to find no network; from-scratch wants MNIST at once."""
        os.environ["PATH"] = ""
        if self.member == "from-scratch":
            self.package.train.LESSONS = LESSONS[::-1]

    def disks(self, half: int) -> None:
        """One that may not be written to, and one that has room for half a checkpoint."""
        (self.home / "read-only").mkdir(mode=0o555)
        self.attempt("read-only runs", self.words, drop_privileges, runs="read-only")
        if self.found["forbidden"]:
            return
        stopped, place, left = (self.home / name for name in ("stopped", "full", "left"))
        place.mkdir()

        def fill() -> None:
            mounts.mount_small(place, half * 2 + 2**21)
            shutil.copytree(stopped, place / self.member / "stopped")
            disk = os.statvfs(place)
            (place / "ballast").write_bytes(bytes(disk.f_bavail * disk.f_bsize - half))

        def take_out() -> None:
            shutil.copytree(place / self.member / "stopped", left)

        with self.watched("full disk", stopped, left):
            self.attempt("full disk", ["--resume"], fill, "full", afterwards=take_out)

    def folder(self, runs: str) -> Path:
        return self.home / runs / self.member / "latest"

    def begin_another(self) -> None:
        """Stop the clock; at this training's first step begin the same in another process.

        That one ends by Ctrl-C at its own first step, and this one goes on.
        """
        from trainloop import folder
        from trainloop.run import Run

        class Stopped(datetime):
            @classmethod
            def now(cls, tz=None) -> datetime:
                return datetime(2026, 1, 2, 3, 4, 5, tzinfo=tz)

        folder.datetime = Stopped
        log = Run.log

        def begin_and_log(run: Run, step: int, **values) -> None:
            Run.log = log
            result = self.attempt("interrupted", self.words, lambda: signal_at(1, signal.SIGINT))
            (self.home / "interrupted.json").write_text(json.dumps(result), "utf-8")
            log(run, step, **values)

        Run.log = begin_and_log

    def read_back(self, name: str) -> None:
        """Take over the result of an attempt that an attempt made."""
        self.results[name] = json.loads((self.home / f"{name}.json").read_text("utf-8"))

    @contextlib.contextmanager
    def watched(self, name: str, folder: Path, left: Path | None = None) -> Iterator[None]:
        """Note what an attempt changed of a run folder, or whether anything in it was run.

        Args:
            left: where the folder is to be found afterwards, if not in its place.
        """
        before = {kept: (folder / kept).read_bytes() for kept in KEPT}
        yield
        folder = left or folder
        self.results[name] |= {
            "changed": [kept for kept in KEPT if (folder / kept).read_bytes() != before[kept]],
            "executed": (folder / "executed").exists(),
            "left": [path.name for path in folder.glob(".*.tmp")],
        }

    def readers(self) -> None:
        """Each command that reads a checkpoint is given bad ones."""
        for line in READERS.get(self.member, ()):
            for kind in ("truncated", "foreign", "malicious"):
                folder = self.home / f"resume {kind}" / self.member / "stopped"
                bad = {"bad": folder / "last.pt", "npz": folder / "named.npz", "run": folder}
                spoil.NPZ[kind](bad["npz"])
                command, *words = (word.format(**bad, **self.found) for word in line.split())
                name = f"{command} {kind}"
                self.attempt(name, words, command=command)
                self.results[name]["executed"] = (folder / "executed").exists()
        if self.member == "active-learning":
            self.attempt("picks nowhere", ["--run", self.found["nothing"]], command="picks")
            folder = self.home / "resume foreign" / self.member / "stopped"
            (folder / "config.json").write_text("{", "utf-8")
            self.attempt("picks damaged", ["--run", str(folder)], command="picks")


KEPT = "config.json", "last.pt", "metrics.jsonl"
"""Files of a run that nothing but going on with it may change."""


def signal_at(step: int, number: signal.Signals) -> None:
    """Let this process get a signal when it logs that step, or the next one that it logs."""
    from trainloop.run import Run

    log, sent = Run.log, []

    def log_and_die(run: Run, at: int, **values) -> None:
        log(run, at, **values)
        if at >= step and not sent:
            sent.append(at)
            os.kill(os.getpid(), number)

    Run.log = log_and_die


def limit_files(size: int) -> None:
    """A disk on which no file may grow beyond that many bytes: writes fail as on a full one."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def drop_privileges() -> None:
    """Lose root's right to write everywhere; for anybody else this changes nothing."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)())


def checkout() -> str:
    """What the system says to a file beside the code; empty where it may be written."""
    from trainloop.paths import workspace_root

    try:
        (workspace_root() / ".written").touch()
    except OSError as error:
        return error.strerror
    (workspace_root() / ".written").unlink()
    return ""


def quicken() -> None:
    """Draw nothing, and read each data set once: neither is what is tried here."""
    from matplotlib.figure import Figure

    from trainloop import curves, datasets
    from trainloop.paths import data_dir

    Figure.draw = lambda figure, renderer: None
    curves.plot_curves = lambda path: None
    original = datasets.load_images
    load = functools.cache(lambda place, name, split: original(name, split))
    datasets.load_images = lambda name, split: load(name == "digits" or data_dir(), name, split)


def main(home: Path, members: list[str]) -> None:
    from trainloop.forks import LATER
    from trainloop.paths import data_dir, project_folders, workspace_root

    found = json.loads((home / "data.json").read_text("utf-8"))
    found["forbidden"] = mounts.forbidden()
    (home / "forbidden.txt").write_text(found["forbidden"], "utf-8")
    if not found["forbidden"]:  # before anything starts a thread
        mounts.enter()
        compiled = project_folders()["splatting"] / "splatting/__pycache__"  # half a minute's work
        mounts.make_read_only(workspace_root(), data_dir(), Path(sys.prefix), compiled)

    import torch

    for name in (*LATER, *ALSO_LATER):
        importlib.import_module(name)
    torch.set_num_threads(1)
    torch.utils.tensorboard.SummaryWriter(str(home / "warm")).close()  # it imports more when used
    quicken()
    for member in members:
        before = time.process_time()
        place = home / member
        place.mkdir()
        try:
            sweep = Sweep(member, place, found)
            sweep.run()
            results = sweep.results
        except Exception:
            results = {"sweep": {"code": 70, "output": traceback.format_exc()}}
        results["own"] = {"cpu": round(time.process_time() - before, 2), "checkout": checkout()}
        (home / f"{member}.json").write_text(json.dumps(results), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
