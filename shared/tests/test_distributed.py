"""Two processes on the CPU, told of each other as torchrun tells them, follow one process."""

import json
import os
import socket
import sys
from pathlib import Path

from trainloop.forks import ForkedPython

COMMAND = (
    "import sys; sys.path.insert(0, {folder!r}); import toy, trainloop;"
    "trainloop.entry_point(lambda: toy.train(trainloop.parse(toy.ToyConfig)))()"
)


def test_two_processes_follow_one(tmp_path):
    """The same global batch gives the same losses to 1e-4 for 20 steps; files are written once."""
    code = COMMAND.format(folder=str(Path(__file__).parent))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    two = [{**group, "RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
    options = ["--steps", "20", "--dropout", "0"]  # dropout draws by row, and rows are shared out
    losses = {}
    for name, ranks in {"one": [{}], "two": two}.items():
        environment = {**os.environ, "LAB_RUNS": str(tmp_path / name), "OMP_NUM_THREADS": "1"}
        command, started = [sys.executable, "-c", code, *options], []
        with (tmp_path / f"{name}.txt").open("w") as output:
            for rank in ranks:
                told = {**environment, **rank}
                started.append(ForkedPython(command, told, stdout=output, stderr=output))
            codes = [process.wait(120) for process in started]
        said = (tmp_path / f"{name}.txt").read_text()
        assert not any(codes), said
        folders = [p for p in (tmp_path / name / "toy").iterdir() if not p.is_symlink()]
        assert len(folders) == 1, "one run folder, by one process"
        lines = [json.loads(line) for line in (folders[0] / "metrics.jsonl").open()]
        losses[name] = [line["loss"] for line in lines if "loss" in line]
        assert len(list(folders[0].glob("events.*"))) == 1
        assert said.count("samples seen") == 1
    assert len(losses["one"]) == len(losses["two"]) == 20, "each step is logged once"
    assert max(abs(a - b) for a, b in zip(losses["one"], losses["two"], strict=True)) < 1e-4
    assert losses["one"][0] - losses["one"][-1] > 0.2, "and there was something to follow"
