"""trainloop: keeps the books of a hand-written training loop; it never trains.

    run = Run.open("warmup", config)                     # a folder, a seed, a device
    batches = Batches(len(images), config.batch_size, config.seed)
    start = run.resume(model=model, optimizer=optimizer, ema=ema)
    for step in run.steps(start):                        # reseeded from (seed, step); Ctrl-C saves
        x, y = run.shard(images[batches.at(step)], labels[batches.at(step)])
        loss = F.cross_entropy(model(x), y)              # the project's own loop, in the open
        ...
        run.log(step, loss=loss)
        if run.due(step, config.eval_every):
            run.log(step, **evaluate(ema.model))
            run.save(step)
    run.finish()                                         # summary, curves, the done-when table

Names are loaded when first used, so that a command's `--help` need not wait for torch.
"""

import os
import time

# torch's threads wait for each other after every operation, and OpenMP lets them spin meanwhile:
# when another program wants one of the cores it takes 50 times as long (measured with the detector
# on two cores: 3.7 ms an image alone, 189 beside a busy process). Spinning shortly costs 5% alone
# and makes it 18 beside the other one. Must be set before torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

STARTED = time.perf_counter()  # close enough to the process's start: wall seconds count imports too

_HOME = {
    "Batches": "batches",
    "Criterion": "done_when",
    "Ema": "ema",
    "LabError": "errors",
    "NonFiniteError": "errors",
    "Run": "run",
    "RunOptions": "cli",
    "atomic_write": "checkpoint",
    "check": "cli",
    "data_dir": "paths",
    "entry_point": "cli",
    "fetch": "datasets",
    "latest_checkpoint": "checkpoint",
    "load_checkpoint": "checkpoint",
    "load_images": "datasets",
    "load_text": "datasets",
    "mean_over_processes": "distributed",
    "parse": "cli",
    "pick_device": "device",
    "load_into": "checkpoint",
    "progress_bar": "progress",
    "Training": "study",
    "runs_dir": "paths",
    "train_all": "study",
    "warmup_cosine": "schedule",
    "write_text": "checkpoint",
}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    """Load `trainloop.<home>` when one of its names is first asked for (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'trainloop' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"trainloop.{_HOME[name]}"), name)
