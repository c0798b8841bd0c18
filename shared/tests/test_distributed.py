"""Two processes of torchrun on the CPU follow one process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

COMMAND = (
    "import sys; sys.path.insert(0, {folder!r}); import toy, trainloop;"
    "trainloop.entry_point(lambda: toy.train(trainloop.parse(toy.ToyConfig)))()"
)


def test_two_processes_follow_one(tmp_path):
    """The same global batch gives the same losses to 1e-4 for 20 steps; files are written once."""
    script = tmp_path / "run_toy.py"
    script.write_text(COMMAND.format(folder=str(Path(__file__).parent)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
              "--master-port", port]  # fmt: skip
    options = ["--steps", "20", "--dropout", "0"]  # dropout draws by row, and rows are shared out
    losses = {}
    for name, start in {"one": [sys.executable], "two": launch}.items():
        environment = {**os.environ, "LAB_RUNS": str(tmp_path / name), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*start, str(script), *options], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        folders = [p for p in (tmp_path / name / "toy").iterdir() if not p.is_symlink()]
        assert len(folders) == 1, "one run folder, by one process"
        lines = [json.loads(line) for line in (folders[0] / "metrics.jsonl").open()]
        losses[name] = [line["loss"] for line in lines if "loss" in line]
        assert len(list(folders[0].glob("events.*"))) == 1
        assert done.stderr.count("samples seen") == 1
    assert len(losses["one"]) == len(losses["two"]) == 20, "each step is logged once"
    assert max(abs(a - b) for a, b in zip(losses["one"], losses["two"], strict=True)) < 1e-4
    assert losses["one"][0] - losses["one"][-1] > 0.2, "and there was something to follow"
