"""A run: its numbers, its checkpoints, and how it stops and goes on."""

import contextlib
import json
import math
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from torch import Tensor, nn

import trainloop
from trainloop import distributed
from trainloop.checkpoint import (
    atomic_write,
    load_checkpoint,
    load_into,
    naming,
    save_checkpoint,
)
from trainloop.cli import RunOptions
from trainloop.device import device_name, pick_device, seed_step
from trainloop.done_when import criteria, judge, verdict_table
from trainloop.errors import LabError, NonFiniteError
from trainloop.folder import (
    current_commit,
    json_bytes,
    lock,
    new_folder,
    newest_folder,
    now,
    overrides,
    point_latest,
    read_json,
    resumed_config,
)
from trainloop.progress import progress_bar

AUTOSAVE_SECONDS = 60.0  # a kill costs at most this much work
FLUSH_SECONDS = 0.5  # how old the last line of metrics.jsonl may be
NON_FINITE_ADVICE = (
    "Try a lower learning rate, a longer warm-up, gradient clipping, or --precision fp32"
)
TENSORBOARD_POINTS = 250  # per curve: add_scalar costs 76 us, a tenth of a small model's step


class Run:
    """The books of one training run.

    Attributes:
        config: the options; those of the resumed run where there is one.
        folder: holds config.json, metrics.jsonl (the truth; no wall-clock in it), timing.jsonl,
            last.pt, best.pt, summary.json, *.png and TensorBoard's events.
        device: where to train.
        rank, processes: this process and how many there are; only rank 0 writes files.
        scaler: a GradScaler, which does nothing unless the precision is fp16.
        notes: plain values that checkpoints carry along, such as the names of the classes.
    """

    def __init__(self, project: str, config: RunOptions, command: str, folder: Path) -> None:
        """Use `Run.open`."""
        self.project, self.config, self.command, self.folder = project, config, command, folder
        self.device = pick_device(config.device, config.precision)
        self.rank, self.processes = distributed.rank_and_size()
        self.is_main = self.rank == 0
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        self.notes: dict[str, Any] = {}
        self.total = config.steps
        self._states: dict[str, Any] = {}
        self._best: float | None = None
        self._saved_step = -1
        self._saved_at = self._flushed_at = time.perf_counter()
        self._last_loss: tuple[int, float] | None = None
        self._pending: list[tuple[int, dict[str, Any]]] = []
        self._latest: dict[str, float | None] = {}  # the last value of every metric
        self._tensorboard = None
        self._bar = None
        self._before = {"wall_seconds": 0.0, "cpu_seconds": 0.0}  # of earlier parts of this run

    @staticmethod
    def options[Config: RunOptions](project: str, config: Config, command: str = "train") -> Config:
        """The options to train with: those of the run to resume, else `config` itself.

        For what may go wrong before there should be a run folder, such as loading the data.

        Raises:
            LabError: nothing to resume, or an option given now differs from the run's.
        """
        if not config.resume:
            return config
        return resumed_config(config, newest_folder(project, command))

    @classmethod
    def open[Config: RunOptions](
        cls, project: str, config: Config, command: str = "train"
    ) -> "Run":
        """Make a new run folder, or find the newest one for `config.resume`; seed torch.

        Exits with code 0 where the run to resume is finished.

        Raises:
            LabError: nothing to resume, another process has the run open, an option differs from
                the resumed run's, or the device asked for is not there.
        """
        pick_device(config.device, config.precision)  # complain before there is a folder
        distributed.join()

        def find() -> str:
            return str(newest_folder(project, command) if config.resume else new_folder(project))

        folder = Path(distributed.from_main(find))
        if config.resume:
            config = resumed_config(config, folder)
        run = cls(project, config, command, folder)
        if config.resume and (folder / "summary.json").exists():
            run._print(f"{folder} is finished: leave out --resume to start a new run")
            raise SystemExit(0)
        if run.is_main:
            run._lock = lock(folder)
            if not config.resume:
                run._describe()
            point_latest(folder)
            run._metrics = (folder / "metrics.jsonl").open("ab")
            run._print(f"{project}: {command} on {device_name(run.device)}, run {folder}")
        seed_step(config.seed, 0, run.device)
        return run

    # --- what the loop calls ---------------------------------------------------------------

    def resume(self, **states: Any) -> int:
        """Register what a checkpoint holds; load it when resuming. Returns the steps done so far.

        Args:
            states: objects with state_dict and load_state_dict: model=, optimizer=, ema=...

        Raises:
            LabError: the checkpoint is damaged, foreign, or does not fit.
        """
        self._states = {**states, "scaler": self.scaler}
        path = self.folder / "last.pt"
        if not self.config.resume or not path.exists():  # killed before its first checkpoint
            self._keep_metrics(0)
            return 0
        saved = load_checkpoint(path, self.project)
        load_into(path, self._states, saved["states"])
        self._keep_metrics(saved["metrics_bytes"])
        self._best, self._before = saved["best"], saved["elapsed"]
        self._saved_step = saved["step"]
        return saved["step"]

    def steps(self, start: int) -> Iterator[int]:
        """The numbers start+1 .. config.steps, with a progress bar, each with torch reseeded.

        Ctrl-C (or SIGTERM) lets the step finish, saves, and exits with code 130; a second one
        stops at once. Every minute the run is saved.
        """
        self._bar = progress_bar(self.total, "step", initial=start, disable=not self.is_main)
        with self._bar, self._stop_signals() as stop_asked:
            for step in range(start + 1, self.total + 1):
                seed_step(self.config.seed, step, self.device)
                yield step
                self._bar.update()
                if stop_asked:
                    self.save(step)
                    self._bar.close()
                    self._print(
                        f"stopped at step {step} of {self.total}; go on with "
                        f"`uv run --package {self.project} {self.command} --resume`"
                    )
                    self._close()
                    raise SystemExit(130)
                if time.perf_counter() - self._saved_at > AUTOSAVE_SECONDS:
                    self.save(step)

    def due(self, step: int, every: int) -> bool:
        """True at every `every`-th step and at the last one."""
        return step % every == 0 or step == self.total

    def shard(self, *tensors: Tensor) -> tuple[Tensor, ...] | Tensor:
        """This process's rows of a global batch: all of them where there is one process.

        Every process prepares the whole batch, with the same random draws, and takes its part, so
        that two processes train on just what one would.
        """
        if self.processes > 1:
            rows = tensors[0].shape[0]
            if rows % self.processes:
                raise LabError(
                    f"a batch of {rows} cannot be shared by {self.processes} processes evenly: "
                    f"make --batch-size a multiple of {self.processes}"
                )
            part = slice(
                rows // self.processes * self.rank, rows // self.processes * (self.rank + 1)
            )
            tensors = tuple(tensor[part] for tensor in tensors)
        return tensors if len(tensors) > 1 else tensors[0]

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model to call in the loop: itself, or wrapped so that processes average gradients."""
        if self.processes == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=devices)

    def autocast(self) -> contextlib.AbstractContextManager:
        """The context of the forward pass in the run's precision."""
        if self.config.precision == "fp32":
            return contextlib.nullcontext()
        dtype = torch.bfloat16 if self.config.precision == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype)

    def log(self, step: int, **values: float | int | Tensor | None) -> None:
        """Write one line of metrics.jsonl: numbers, null where a metric is undefined or infinite.

        Tensors of one element are averaged over processes; plain numbers are taken as they are. On
        a GPU tensors are read later, so that logging does not make the loop wait.

        Raises:
            NonFiniteError: a value called ..loss.. is NaN or infinite; nothing is saved after it.
        """
        if self.processes > 1:
            values = {
                name: distributed.mean_over_processes(value) if isinstance(value, Tensor) else value
                for name, value in values.items()
            }
        self._pending.append(
            (step, {k: v.detach() if isinstance(v, Tensor) else v for k, v in values.items()})
        )
        if self.device.type == "cpu" or len(self._pending) >= 20:
            self._read_pending()

    def picture(self, name: str, figure: Figure) -> None:
        """Save a matplotlib figure as NAME.png, replacing the last one; TensorBoard keeps all."""
        if not self.is_main:
            return
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # once for both: it is what costs
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        atomic_write(self.folder / f"{name}.png", lambda file: imsave(file, pixels, format="png"))
        step = self._bar.n if self._bar else 0
        with naming(self.folder):
            self._events().add_image(name, pixels, step, dataformats="HWC")

    def save(self, step: int, metric: float | int | None = None) -> None:
        """Write last.pt, and best.pt too if `metric` (higher is better) beats all before it."""
        self._read_pending()
        is_best = metric is not None and (self._best is None or metric > self._best)
        if is_best:
            self._best = metric
        if not self.is_main:
            return
        self._metrics.flush()
        os.fsync(self._metrics.fileno())  # the checkpoint speaks of these bytes
        content = {
            "project": self.project,
            "command": self.command,
            "config": asdict(self.config),
            "step": step,
            "metrics_bytes": self._metrics.tell(),
            "best": self._best,
            "elapsed": self._elapsed(),
            "notes": self.notes,
            "states": {name: target.state_dict() for name, target in self._states.items()},
        }
        save_checkpoint(
            self.folder / "last.pt", content, also=self.folder / "best.pt" if is_best else None
        )
        with (self.folder / "timing.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, **self._elapsed()}) + "\n")
        self._saved_step, self._saved_at = step, time.perf_counter()

    def finish(self, **facts: float | int) -> dict[str, float | int | None]:
        """Write summary.json and curves.png, print the figures and the done-when table.

        Args:
            facts: more numbers for the summary that are no metric, such as images_seen.

        Returns:
            The last value of every metric logged, and the time it took.
        """
        from trainloop.curves import plot_curves

        self._read_pending()
        metrics = {**self._latest, **facts, **self._elapsed()}
        if not self.is_main:
            return metrics
        self._metrics.flush()
        if (figure := plot_curves(self.folder / "metrics.jsonl")) is not None:
            self.picture("curves", figure)
        summary = {**read_json(self.folder / "config.json"), "steps": self.total,
                   "finished": now(), "metrics": metrics}  # fmt: skip
        atomic_write(self.folder / "summary.json", lambda file: file.write(json_bytes(summary)))
        self._close()
        tested = {name: value for name, value in metrics.items() if name.startswith("test/")}
        for name, value in tested.items():
            self._print(f"{name:<16} {'undefined' if value is None else f'{value:.4f}'}")
        spent = {**facts, **self._elapsed()}
        self._print(", ".join(f"{k.replace('_', ' ')} {v:,.0f}" for k, v in spent.items()))
        asked = [c for c in criteria(self.project) if c.command == self.command]
        verdicts = [judge(criterion, [summary]) for criterion in asked]
        if verdicts:
            self._print("\ndone when\n" + verdict_table(verdicts))
        return metrics

    # --- how it is done --------------------------------------------------------------------

    def _read_pending(self) -> None:
        """Turn logged tensors into numbers, check them, and append them to metrics.jsonl."""
        pending, self._pending = self._pending, []
        for step, values in pending:
            numbers = {k: v.item() if isinstance(v, Tensor) else v for k, v in values.items()}
            for name, number in numbers.items():
                if number is not None and not math.isfinite(number):
                    if "loss" in name:
                        self._stop_non_finite(step, name, number)
                    numbers[name] = None  # JSON has no NaN; an fp16 gradient may overflow at times
            self._latest.update(numbers)
            if "loss" in numbers:
                self._last_loss = (step, numbers["loss"])
            if self.is_main:
                self._metrics.write(json_bytes({"step": step, **numbers}, indent=None))
                self._to_tensorboard(step, numbers)
        now = time.perf_counter()
        if pending and self.is_main and now - self._flushed_at > FLUSH_SECONDS:
            self._metrics.flush()
            self._flushed_at = now
            if self._bar is not None:
                shown = {k: v for k, v in numbers.items() if v is not None}
                self._bar.set_postfix({k: f"{v:.4g}" for k, v in shown.items()}, refresh=False)

    def _stop_non_finite(self, step: int, name: str, number: float) -> None:
        self._close()
        last = "no loss before it was finite"
        if self._last_loss:
            last = "the last finite loss was {1:.4g} at step {0}".format(*self._last_loss)
        saved = "nothing was saved before"
        if self._saved_step >= 0:
            saved = f"last.pt holds step {self._saved_step} and stays as it is"
        raise NonFiniteError(
            f"{name} is {number} at step {step} ({last}; {saved}). " + NON_FINITE_ADVICE
        )

    def _to_tensorboard(self, step: int, numbers: dict[str, float | int | None]) -> None:
        if step % max(1, self.total // TENSORBOARD_POINTS) and step != self.total:
            return
        with naming(self.folder):
            for name, number in numbers.items():
                if number is not None:
                    self._events().add_scalar(name, number, step)

    def _events(self):
        """TensorBoard's writer; after a resume it forgets what came after the checkpoint."""
        if self._tensorboard is None:
            from torch.utils.tensorboard import SummaryWriter

            purge = self._saved_step + 1 if self.config.resume and self._saved_step >= 0 else None
            self._tensorboard = SummaryWriter(str(self.folder), purge_step=purge)
        return self._tensorboard

    def _keep_metrics(self, size: int) -> None:
        """Cut metrics.jsonl back to where the checkpoint was; the steps after it come again."""
        if not self.is_main:
            return
        for stale in self.folder.glob(".*.tmp"):  # of a process killed while writing
            stale.unlink()
        path = self.folder / "metrics.jsonl"
        if path.stat().st_size < size:
            raise LabError(f"{path} is shorter than last.pt says: it was edited; start a new run")
        self._metrics.truncate(size)
        self._metrics.seek(0, os.SEEK_END)
        for line in path.read_text("utf-8").splitlines():
            record = json.loads(line)
            step = record.pop("step")
            self._latest.update(record)
            if "loss" in record:
                self._last_loss = (step, record["loss"])

    def _close(self) -> None:
        """Let the folder go, also where the Run lives on: in a notebook, in a traceback."""
        if self.is_main:
            self._metrics.close()
            self._lock.close()
            if self._tensorboard is not None:
                self._tensorboard.close()

    def _describe(self) -> None:
        about = {
            "project": self.project,
            "command": self.command,
            "config": asdict(self.config),
            "overrides": overrides(self.config),
            "device": device_name(self.device),
            "threads": torch.get_num_threads(),
            "processes": self.processes,
            "commit": current_commit(),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "started": now(),
        }
        atomic_write(self.folder / "config.json", lambda file: file.write(json_bytes(about)))

    def _elapsed(self) -> dict[str, float]:
        times = os.times()
        wall = time.perf_counter() - trainloop.STARTED
        cpu = times.user + times.system + times.children_user + times.children_system
        return {
            "wall_seconds": round(self._before["wall_seconds"] + wall, 3),
            "cpu_seconds": round(self._before["cpu_seconds"] + cpu, 3),
        }

    @contextlib.contextmanager
    def _stop_signals(self) -> Iterator[list[int]]:
        """A list that is empty until somebody asks the run to stop."""
        asked: list[int] = []

        def ask(number: int, frame: object) -> None:
            if asked:
                raise KeyboardInterrupt
            asked.append(number)
            self._print("\nstopping after this step (once more to stop at once)")

        # Several processes would leave the loop at different steps and wait for each other for
        # ever, so there the signal ends them and --resume starts from the last checkpoint.
        wanted = [signal.SIGINT, signal.SIGTERM] if self.processes == 1 else []
        try:
            before = {number: signal.signal(number, ask) for number in wanted}
        except ValueError:  # not in the main thread: a notebook's or a test's business
            before = {}
        try:
            yield asked
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _print(self, text: str) -> None:
        if self.is_main:
            print(text, file=sys.stderr, flush=True)
