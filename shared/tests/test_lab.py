"""The lab command: it ticks what the runs show, and loses no entry."""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trainloop import done_when, lab
from trainloop.done_when import Criterion, criteria, judge, recorded
from trainloop.errors import LabError
from trainloop.testing import hold

PYPROJECT = """
[project]
name = "{name}"
[[tool.lab.done-when]]
id = "ap50"
text = "AP50 of at least 0.9"
metric = "test/ap50"
at-least = 0.9
seeds = 2
[[tool.lab.done-when]]
id = "quick"
text = "within 300 seconds"
metric = "wall_seconds"
at-most = 300
"""


@pytest.fixture
def workspace(tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with two projects, nothing run yet."""
    folders = {}
    for name in ("detection", "rl"):
        folders[name] = tmp_path / "projects" / f"10_{name}"
        folders[name].mkdir(parents=True)
        (folders[name] / "pyproject.toml").write_text(PYPROJECT.format(name=name))
    boxes = [f"- [ ] `{name}/{id}` text\n" for name in folders for id in ("ap50", "quick")]
    (tmp_path / "ROADMAP.md").write_text("# Roadmap\n" + "".join(boxes) + "- [ ] by hand\n")
    (tmp_path / "LEARNING.md").write_text("# Learning\n")
    for module in (lab, done_when):
        monkeypatch.setattr(module, "project_folders", lambda: folders)
    monkeypatch.setattr(lab, "workspace_root", lambda: tmp_path)
    return tmp_path


def record(runs: Path, project: str, seed: int, started: str, **changes) -> Path:
    """A finished run as Run.finish leaves it."""
    metrics = {"test/ap50": 0.95, "wall_seconds": 200.0, **changes.pop("metrics", {})}
    summary = {
        "project": project, "command": "train", "config": {"seed": seed, "steps": 9},
        "overrides": {}, "commit": "abc", "started": started, "metrics": metrics, **changes,
    }  # fmt: skip
    folder = runs / project / f"{started}_{seed}"
    folder.mkdir(parents=True)
    for name in ("summary.json", "config.json"):
        (folder / name).write_text(json.dumps(summary))
    return folder


def ticked(workspace: Path) -> set[str]:
    lines = (workspace / "ROADMAP.md").read_text().splitlines()
    return {line.split("`")[1] for line in lines if line.startswith("- [x]")}


def test_check_ticks_only_what_runs_show(workspace, runs):
    with pytest.raises(SystemExit):
        lab.check()
    assert ticked(workspace) == set()
    record(runs, "detection", 0, "2026-01-01")
    with pytest.raises(SystemExit):
        lab.check("detection")  # one seed of two
    assert ticked(workspace) == {"detection/quick"}
    record(runs, "detection", 1, "2026-01-02", metrics={"test/ap50": 0.91})
    lab.check("detection")  # exits 0
    assert ticked(workspace) == {"detection/quick", "detection/ap50"}
    with pytest.raises(SystemExit) as caught:
        lab.check()  # rl has no run
    assert caught.value.code == 1
    record(runs, "detection", 1, "2026-01-03", metrics={"test/ap50": 0.80})
    with pytest.raises(SystemExit):
        lab.check("detection")  # the newest run of a seed counts: not the best one
    assert ticked(workspace) == {"detection/quick"}
    assert "- [ ] by hand" in (workspace / "ROADMAP.md").read_text()


@pytest.mark.parametrize(
    "changes",
    [
        {"overrides": {"steps": 3}},
        {"command": "ablate"},
        {"metrics": {"test/ap50": None}},
        {"metrics": {"test/ap50": float("nan")}},
        {"metrics": {"test/ap50": 0.899}},
    ],
)
def test_runs_that_do_not_count(workspace, runs, changes):
    for seed in range(2):
        record(runs, "detection", seed, "2026-01-01", **changes)
    assert not judge(criteria("detection")[0], recorded("detection")).met


def test_other_options_count_where_they_are_asked_for(runs):
    criterion = Criterion("x", "id", "text", "m", at_most=1.0, options={"overfit": 8})
    record(runs, "x", 0, "2026-01-01", metrics={"m": 0.5})
    assert judge(criterion, recorded("x")).met is None
    record(runs, "x", 0, "2026-01-02", metrics={"m": 0.5}, overrides={"overfit": 8})
    assert judge(criterion, recorded("x")).met


def test_a_whole_number_counts_as_well(runs):
    record(runs, "x", 0, "2026-01-01", metrics={"tokens_differing": 0})
    criterion = Criterion("x", "id", "text", "tokens_differing", at_most=0.0)
    assert judge(criterion, recorded("x")).met


def test_criteria_that_say_nothing_are_refused(tmp_path):
    for line in ("", 'at-leats = 0.9\nmetric = "m"'):
        path = tmp_path / "pyproject.toml"
        path.write_text(f'[[tool.lab.done-when]]\nid = "a"\ntext = "b"\n{line}\n')
        with pytest.raises(LabError, match="done-when a"):
            criteria("x", path)


def test_seeds_that_have_no_run_train_side_by_side(runs, monkeypatch):
    both = threading.Barrier(2)
    threads = {}

    def train(command: list[str], check: bool, env: dict[str, str]) -> None:
        seed = int(command[3].removeprefix("--seed="))
        threads[seed] = env.get("OMP_NUM_THREADS")
        if seed < 3:
            both.wait(timeout=20)  # passes only where two are under way
        record(runs, "detection", seed, f"2026-01-0{seed + 1}", metrics={"m": float(seed)})

    record(runs, "detection", 0, "2026-01-01", metrics={"m": 0.0})
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(subprocess, "run", train)
    hold(Criterion("detection", "id", "text", "m", at_least=1.5, seeds=4), runs)
    assert threads == {1: "1", 2: "1", 3: None}  # the last one has all cores
    with pytest.raises(AssertionError, match=r"1\.5.*asked for >= 1\.6"):
        hold(Criterion("detection", "id", "text", "m", at_least=1.6, seeds=4), runs)


def test_damaged_summaries_are_passed_over(workspace, runs, capsys):
    (record(runs, "detection", 0, "2026-01-01") / "summary.json").write_text('{"half')
    assert recorded("detection") == []
    lab.status()
    assert "2026-01-01_0" in capsys.readouterr().out


def test_status(workspace, runs, capsys):
    record(runs, "detection", 0, "2026-01-01")
    lab.status()
    shown = capsys.readouterr().out
    assert "never run" in shown
    assert "1 of 2" in shown
    assert "0.95" in shown


def test_learn(workspace, runs, capsys):
    record(runs, "detection", 0, "2026-01-01")
    lab.learn("10", worked="level-wise BatchNorm", surprised="AP 0.34 to 0.49")  # folder's number
    text = (workspace / "LEARNING.md").read_text()
    assert "test/ap50 0.95" in text
    assert "`2026-01-01_0` at `abc`" in text
    assert "- **Worked**: level-wise BatchNorm\n- **Surprised**: AP 0.34 to 0.49\n" in text
    assert "Failed" not in text
    with pytest.raises(LabError, match="no project 'nothing'"):
        lab.learn("nothing", worked="x")


def test_learn_opens_the_editor(workspace, monkeypatch):
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "sed -i s/.*Worked.*:/&typed/")
    lab.learn("rl")
    assert "- **Worked**:typed" in (workspace / "LEARNING.md").read_text()
    before = (workspace / "LEARNING.md").read_text()
    for editor in ("true", "false"):  # nothing changed; the editor failed
        monkeypatch.setenv("EDITOR", editor)
        with pytest.raises(LabError, match="nothing appended"):
            lab.learn("rl")
    monkeypatch.delenv("EDITOR")
    with pytest.raises(LabError, match="EDITOR"):
        lab.learn("rl")
    assert (workspace / "LEARNING.md").read_text() == before


def test_ten_processes_lose_no_entry(tmp_path):
    """Entries larger than any buffer, so that writes without the lock would interleave."""
    path = tmp_path / "LEARNING.md"
    code = (
        "import sys, pathlib; from trainloop.lab import append\n"
        "for k in range(20):\n"
        "    append(pathlib.Path(sys.argv[1]), f'## {sys.argv[2]}.{k}\\n' + 'x' * 30000 + '\\n')"
    )
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(
            lambda n: subprocess.run([sys.executable, "-c", code, path, str(n)], check=True),
            range(10),
        ))  # fmt: skip
    entries = path.read_text().split("\n## ")[1:]
    assert sorted(e.split("\n")[0] for e in entries) == sorted(
        f"{n}.{k}" for n in range(10) for k in range(20)
    )
    assert all(entry.split("\n")[1] == "x" * 30000 for entry in entries)


def test_status_does_not_wait_for_torch():
    code = "import sys; from trainloop import lab; lab.status(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_doctor_names_what_to_do(monkeypatch, tmp_path):
    import shutil
    from collections import namedtuple

    assert all(level != "bad" for level, _ in lab.machine_findings())
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**29))
    bad = [text for level, text in lab.machine_findings() if level == "bad"]
    assert len(bad) == 2
    assert all("make room" in text for text in bad)


@pytest.mark.parametrize(
    ("archs", "capability", "fits"),
    [
        (["sm_50", "sm_60", "sm_90"], (6, 1), True),  # a GTX 1060 on torch 2.7: sm_60 code serves
        (["sm_75", "sm_90", "sm_120"], (6, 1), False),  # and on torch 2.8
        (["sm_50", "sm_90"], (12, 0), False),  # a Blackwell card on torch 2.7
        (["sm_50", "compute_90"], (12, 0), True),  # PTX is compiled for newer cards
        (["sm_90a"], (9, 0), True),
        (["sm_86"], (8, 0), False),
    ],
)
def test_gpu_architectures(monkeypatch, archs, capability, fits):
    import torch

    from trainloop.device import gpu_is_supported

    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: archs)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _=0: capability)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _=0: "card")
    assert gpu_is_supported() is fits
    assert (lab.torch_findings()[0][0] == "ok") is fits


def test_the_gpu_is_named(monkeypatch):
    """What every run on a GPU asks first; there was none where this was written."""
    import torch

    from trainloop.device import device_name

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device.index}")
    assert device_name(torch.device("cuda", 1)) == "cuda (card 1)"


def test_the_command_itself(tmp_path):
    """As installed: misuse is one line and exit 2."""
    command = str(Path(sys.executable).with_name("lab"))
    done = subprocess.run([command, "check", "nothing"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no project 'nothing'")
    environment = {**os.environ, "LAB_RUNS": str(tmp_path)}
    done = subprocess.run([command, "status"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0
    assert "detection" in done.stdout
