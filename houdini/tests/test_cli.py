"""The commands: same bytes with any number of workers, killed and run again, exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from houdini_bridge import digits as whole
from houdini_bridge import sheets, table
from houdini_bridge.config import CutConfig, DigitsConfig, RenderConfig
from houdini_bridge.cut import cut
from houdini_bridge.draw import draw, tiled
from houdini_bridge.faces import all_faces
from houdini_bridge.pool import THREAD_LIMITS, in_order
from houdini_bridge.sheets import is_made, render, sheet_path
from houdini_bridge.table import ensure
from trainloop import LabError


def command(name: str, *options: str) -> list[str]:
    return [sys.executable, "-c", f"from houdini_bridge.cli import {name}; {name}()", *options]


def tree(folder: Path) -> dict[str, bytes]:
    """The content of every file below the folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_help_is_quick_and_the_cutter_needs_no_torch(tmp_path):
    for name in ("digits", "render", "cut", "train"):
        code = (
            f"import sys; from houdini_bridge.cli import {name} as run\n"
            "try: run()\n"
            "finally: print('torch' in sys.modules, 'numpy' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "False False"
        assert "--seed" in done.stdout or name == "cut"
        assert "--steps" not in done.stdout or name == "train"


def test_sheets_are_what_the_rows_say(quick, tmp_path):
    render(RenderConfig(render_dir=str(tmp_path), digits=(4,), frames=2, workers=1))
    rows = table.read_rows(tmp_path)
    here = rows[(rows["digit"] == 4) & (rows["frame"] == 2)]
    faces = all_faces()
    exact = tiled(draw(here, [faces[str(row["face"]), 4] for row in here]))
    with Image.open(sheet_path(tmp_path, 4, 2)) as image:
        assert (image.mode, image.size) == ("L", (224, 224))
        assert np.array_equal(np.asarray(image), exact)
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["4.0001.png", "4.0002.png"]


def test_workers_do_not_change_a_byte(quick, tmp_path):
    some = RenderConfig(digits=(2, 8), frames=2)
    for workers in (1, 2):
        render(replace(some, render_dir=str(tmp_path / str(workers)), workers=workers))
    one, two = (tree(tmp_path / str(workers)) for workers in (1, 2))
    assert len([name for name in one if name.endswith(".png")]) == 4
    assert one == two


def test_sheets_that_are_there_are_kept(quick, tmp_path, capsys):
    some = RenderConfig(render_dir=str(tmp_path), digits=(1,), frames=2, workers=1)
    render(replace(some, frames=1))
    first = sheet_path(tmp_path, 1, 1)
    before = first.stat().st_mtime_ns
    render(some)
    assert first.stat().st_mtime_ns == before
    assert "1 sheets made, 1 were there" in capsys.readouterr().err
    with Image.open(first) as image:
        image.save(first)  # somebody's own: its mark is gone
    render(some)
    assert is_made(first, table.fingerprint(0))


def test_table_only_draws_nothing(quick, tmp_path):
    render(RenderConfig(render_dir=str(tmp_path), table_only=True))
    assert sorted(tree(tmp_path)) == ["table.csv", "table.json"]


def test_overwriting_deletes_the_sheets_of_another_seed(quick, tmp_path):
    some = RenderConfig(render_dir=str(tmp_path), digits=(1,), frames=2, workers=1)
    render(some)
    render(replace(some, seed=1, frames=1, overwrite=True))
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["1.0001.png"]


def test_killed_and_run_again_it_is_as_if_it_was_not(quick, tmp_path):
    """`render` and `cut` killed without a word and run again, against both left alone."""
    short, alone = ({"render_dir": str(tmp_path / how / "in"), "digits": (0, 9), "frames": 5}
                    for how in ("short", "alone"))  # fmt: skip
    ensure(tmp_path / "short/in", 0, overwrite=False)  # so that the commands find it
    options = ["--digits", "0", "9", "--frames=5", f"--render-dir={short['render_dir']}"]
    kill_after(command("render", *options, "--workers=2"), tmp_path / "short", 3)
    render(RenderConfig(**short, workers=1))
    folder = f"--output-dir={tmp_path / 'short/out'}"
    kill_after(command("cut", *options, folder, "--workers=1"), tmp_path / "short", 60)
    cut(CutConfig(**short, output_dir=str(tmp_path / "short/out"), workers=1))
    render(RenderConfig(**alone, workers=1))
    cut(CutConfig(**alone, output_dir=str(tmp_path / "alone/out"), workers=1))
    found, expected = tree(tmp_path / "short"), tree(tmp_path / "alone")
    assert len([name for name in expected if name.endswith(".png")]) == 10 + 10 * 64
    assert found.keys() == expected.keys()
    assert [n for n in found if found[n] != expected[n]] in ([], ["out/cut.jsonl"])


def kill_after(run: list[str], folder: Path, few: int) -> None:
    """Start it, and kill it with its workers as soon as there are a few more files."""
    before = len(list(folder.rglob("*.png")))
    process = subprocess.Popen(run, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 300
    while len(list(folder.rglob("*.png"))) < before + few and time.monotonic() < deadline:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_misuse_is_one_line_and_code_2(tmp_path):
    nowhere = f"--render-dir={tmp_path}"
    for options, says in [
        (["--digits", "12"], "--digits"),
        ([nowhere, "--frames=1", "--digits=3"], "3.0001.png"),
    ]:
        done = subprocess.run(command("cut", *options), capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert says in done.stderr
        assert done.stderr.count("\n") == 1


def test_ctrl_c_ends_a_render_quietly(quick, tmp_path):
    ensure(tmp_path, 0, overwrite=False)
    run = command("render", f"--render-dir={tmp_path}", "--workers=2")
    process = subprocess.Popen(
        run, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # whoever runs the tests may ignore it (nohup, a job of a script), and that is inherited
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob("*.png")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in said
    made = list(tmp_path.rglob("*.png"))
    assert 0 < len(made) < 640
    for path in made:
        with Image.open(path) as image:
            image.load()
    assert not list(tmp_path.rglob("*.tmp"))


def test_results_come_in_the_order_of_the_jobs():
    before = [os.environ.get(name) for name in THREAD_LIMITS]
    for workers in (1, 2):
        with in_order(abs, [-3, 2, -1], workers) as results:
            assert list(results) == [3, 2, 1]
    assert [os.environ.get(name) for name in THREAD_LIMITS] == before


def test_a_killed_worker_is_one_line():
    with (
        pytest.raises(LabError, match="worker process was killed"),
        in_order(os._exit, [1, 1], 2) as results,
    ):
        list(results)


# --- the run -------------------------------------------------------------------------------------


@pytest.fixture
def small(quick, tmp_path, monkeypatch) -> DigitsConfig:
    monkeypatch.setenv("LAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("LAB_DATA", str(tmp_path / "data"))
    return DigitsConfig(digits=(3, 7), frames=2, workers=1)


def test_a_step_is_a_sheet():
    assert DigitsConfig().steps == 640
    assert DigitsConfig(digits=(1, 2), frames=3).steps == 6


def test_a_run_draws_cuts_and_counts(small, tmp_path, capsys):
    metrics = whole.digits(small)
    assert metrics["images"] == 4 * 64
    assert metrics["seconds"] > 0
    output = tmp_path / "data/synthetic-digits/output"
    assert sorted(path.name for path in output.iterdir()) == ["3", "7", "cut.jsonl"]
    assert len(list(output.glob("7/*.png"))) == 128
    summary = json.loads((tmp_path / "runs/houdini/latest/summary.json").read_text())
    assert summary["command"] == "digits"
    assert summary["metrics"]["images"] == 256

    assert whole.digits(small) == {"images": 256}
    assert "all 256 digits are there" in capsys.readouterr().err
    assert len(list((tmp_path / "runs/houdini").iterdir())) == 2, "one run and `latest`"


def test_a_run_that_finds_some_does_not_claim_their_time(small, tmp_path):
    whole.digits(replace(small, frames=1))
    metrics = whole.digits(small)
    assert metrics["images"] == 256
    assert metrics["seconds"] is None
    (tmp_path / "data/synthetic-digits/output/3/0002_63.png").unlink()
    assert whole.digits(small)["seconds"] is None


def test_a_run_of_another_seed_needs_overwrite(small, tmp_path):
    whole.digits(small)
    with pytest.raises(LabError, match="seed 0"):
        whole.digits(replace(small, seed=1))
    before = tree(tmp_path / "data")
    metrics = whole.digits(replace(small, seed=1, overwrite=True))
    assert metrics["images"] == 256
    assert tree(tmp_path / "data") != before


def test_a_cut_run_resumes(small, tmp_path, monkeypatch):
    make, calls = sheets.make_sheet, []

    def dies(job):
        calls.append(job)
        if len(calls) == 3:
            raise InterruptedError
        return make(job)

    with monkeypatch.context() as patch:
        patch.setattr(whole, "make_sheet", dies)
        with pytest.raises(InterruptedError):
            whole.digits(small)
    metrics = whole.digits(replace(small, resume=True))
    assert metrics["images"] == 256
    monkeypatch.setenv("LAB_DATA", str(tmp_path / "again"))
    whole.digits(small)
    one, two = (tree(tmp_path / name / "synthetic-digits/output") for name in ("data", "again"))
    assert {k: v for k, v in one.items() if k != "cut.jsonl"} == {
        k: v for k, v in two.items() if k != "cut.jsonl"
    }
