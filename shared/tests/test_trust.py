"""Every member when the machine does its worst, or the user does: the attempts are in sweep.py.

One process sweeps all members that are asked for, in an ASCII locale, its runs and its data under a
path with spaces, the checkout read-only, and with an address for the network that answers nobody.
"""

import json
import os
import re
import subprocess
import sys
import types
import typing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import trainloop
from trainloop.datasets import fetch
from trainloop.paths import data_dir, project_folders
from trainloop.testing import assert_same_run, configs

SWEEP = Path(__file__).with_name("sweep.py")
MEMBERS = tuple(project_folders())
DATA = {"mnist": "mnist", "fashion-mnist": "fashion-mnist", "houdini": "mnist"}
"""What the smallest training of a member still needs."""
NOWHERE = "http://127.0.0.1:9"
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
ALONE = {
    "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "OMP_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1", "NUMBA_THREADING_LAYER": "workqueue",  # OpenMP forbids to fork
    "no_proxy": "", "NO_PROXY": "",
    **{cased: NOWHERE for name in PROXIES for cased in (name, name.upper())},
}  # fmt: skip
FIRST = "2026-01-02_03-04-05"
"""The run that was left alone; the clock stood still when it began."""
BAD = ("truncated", "corrupt", "foreign", "malicious")


def make_data(home: Path) -> dict[str, str]:
    """A tiny data set below `home` for each member that can read the user's own, by name."""
    random = np.random.default_rng(0)

    def picture(path: Path, *shape: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(path)

    for split in ("train", "valid", "test"):
        for i in range(4):
            picture(home / f"cups/{split}/{i}.png", 30, 40, 3)
        coco = {
            "images": [{"id": i, "file_name": f"{i}.png"} for i in range(4)],
            "annotations": [{"image_id": i, "category_id": i % 2, "bbox": [4 + i, 6, 18, 12]}
                            for i in range(4)],
            "categories": [{"id": 0, "name": "cup"}, {"id": 1, "name": "löffel"}],
        }  # fmt: skip
        (home / f"cups/{split}/_annotations.coco.json").write_text(json.dumps(coco), "utf-8")
    for digit in range(10):
        for cell in range(8):
            picture(home / f"digits/{digit}/0001_{cell:02}.png", 28, 28)
    drawings = random.integers(0, 256, (60, 28, 28), np.uint8)
    np.savez(home / "drawings.npz", images=drawings, labels=np.arange(60) % 10)
    lines = [f"line {i} of a play with a näme and {i * 7 % 13} words\n" for i in range(400)]
    (home / "text.txt").write_text("".join(lines), "utf-8")
    (home / "nothing").mkdir()
    return {
        "cups": str(home / "cups"), "digits": str(home / "digits"),
        "drawings": str(home / "drawings.npz"), "text": str(home / "text.txt"),
        "photo": str(home / "cups/test/0.png"), "nothing": str(home / "nothing"),
    }  # fmt: skip


def can_be_had(name: str) -> bool:
    """Whether that data set is here, or could be fetched."""
    try:
        fetch(name)
    except trainloop.LabError:
        return False
    return True


@pytest.fixture(scope="module")
def home(request, tmp_path_factory) -> Path:
    """Where the sweep took place: of the members of the tests that were picked."""
    home = tmp_path_factory.mktemp("sweep") / "runs and data"
    home.mkdir()
    (home / "data.json").write_text(json.dumps(make_data(home)), "utf-8")
    asked = {
        item.callspec.params["member"]
        for item in request.session.items
        if item.path == request.path and "home" in item.fixturenames
    }
    members = [m for m in MEMBERS if m in asked and (m not in DATA or can_be_had(DATA[m]))]
    done = subprocess.run(
        [sys.executable, str(SWEEP), str(home), *members],
        cwd=home, env={**os.environ, **ALONE, "LAB_DATA": str(data_dir())},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return home


@pytest.fixture(params=MEMBERS)
def member(request) -> str:
    return request.param


@pytest.fixture
def swept(home, member) -> dict[str, dict]:
    """What became of the attempts with a member, by their names."""
    if not (home / f"{member}.json").exists():
        pytest.skip(
            f"{DATA[member]} is neither here nor to be had: `uv run lab fetch {DATA[member]}`"
        )
    results = json.loads((home / f"{member}.json").read_text("utf-8"))
    assert "sweep" not in results, results["sweep"]["output"]
    return results


def need_mounts(home: Path) -> None:
    if reason := (home / "forbidden.txt").read_text("utf-8"):
        pytest.skip(f"this machine allows no mounts of one's own: {reason}")


def last_line(result: dict) -> str:
    """What a user reads last."""
    lines = [line for line in re.split(r"[\r\n]+", result["output"]) if line.strip()]
    return lines[-1] if lines else ""


def assert_one_line(result: dict, code: int, said: str) -> None:
    """It ended with that code, and its last words are one line that says so."""
    assert result["code"] == code, result["output"]
    assert "Traceback" not in result["output"]
    assert last_line(result).startswith("error: "), result["output"]
    assert re.search(said, last_line(result)), last_line(result)


def test_two_at_once_do_not_meet(home, member, swept):
    """Both of the same second by the same command, the second within the first."""
    assert swept["whole"]["code"] == 0, swept["whole"]["output"]
    folders = [p for p in (home / member / "runs" / member).iterdir() if not p.is_symlink()]
    assert sorted(path.name for path in folders) == [FIRST, f"{FIRST}_2"]


def test_ctrl_c_saves_and_says_how_to_go_on(member, swept):
    assert swept["interrupted"]["code"] == 130, swept["interrupted"]["output"]
    assert "Traceback" not in swept["interrupted"]["output"]
    command = "curve" if member == "active-learning" else "train"
    assert f"uv run --package {member} {command} --resume" in last_line(swept["interrupted"])


def test_resumed_it_ends_as_if_left_alone(home, member, swept):
    """After Ctrl-C at its first step, SIGKILL at its second and a full disk then, bit for bit."""
    assert swept["killed"]["code"] == -9, swept["killed"]["output"]
    assert swept["file limit"]["code"] == 1, swept["file limit"]["output"]
    assert swept["resumed"]["code"] == 0, swept["resumed"]["output"]
    folders = [p for p in (home / member / "runs" / member).iterdir() if not p.is_symlink()]
    assert_same_run(*folders, member)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_checkpoint_is_not_resumed(member, swept, kind):
    """Nothing in it is executed, nothing is overwritten."""
    result = swept[f"resume {kind}"]
    assert_one_line(result, 2, "last.pt")
    assert not result["executed"]
    assert not result["changed"]


def test_a_bad_checkpoint_is_not_read(member, swept):
    """By any command that takes one: cut, another project's, or with a program in it."""
    bad = "(?!resume ).*(truncated|foreign|malicious)"
    attempts = {name: result for name, result in swept.items() if re.fullmatch(bad, name)}
    if not attempts:
        pytest.skip("no command of it reads a checkpoint that is named")
    for result in attempts.values():
        assert_one_line(result, 2, "last.pt|named.npz")
        assert not result["executed"]


@pytest.mark.parametrize("member", ["active-learning"], indirect=True)
@pytest.mark.parametrize("name", ["picks nowhere", "picks damaged"])
def test_a_bad_folder_of_a_run_is_one_line(member, swept, name):
    assert_one_line(swept[name], 2, "no curve in ")


@pytest.mark.parametrize("kind", ["file limit", "full disk"])
def test_a_full_disk_loses_nothing(home, member, swept, kind):
    """No file may grow beyond half a checkpoint, or no more than that is left on the file system:
    the last checkpoint stays, and no part of a new one."""
    if kind == "full disk":
        need_mounts(home)
    result = swept[kind]
    assert_one_line(result, 1, "(too large|No space left on device): /")
    assert not set(result["changed"]) - {"metrics.jsonl"}
    assert not result["left"]


def test_a_read_only_folder_of_runs_is_one_line(member, swept):
    assert_one_line(swept["read-only runs"], 1, "Permission denied|Read-only")


def test_a_read_only_checkout_is_enough(home, member, swept):
    """Runs and data elsewhere: all attempts were made with nothing to write to beside the code."""
    need_mounts(home)
    assert swept["own"]["checkout"] == "Read-only file system"
    assert swept["whole"]["code"] == 0, swept["whole"]["output"]


@pytest.mark.parametrize("member", ["warmup"], indirect=True)
def test_a_path_that_the_locale_cannot_spell_is_refused(member, swept):
    assert_one_line(swept["no UTF-8"], 2, r"set LC_ALL=C\.UTF-8")


def test_without_data_and_network_it_says_what_to_do(member, swept):
    if "no data" not in swept:
        pytest.skip("it needs no data: all its attempts ran without any, and without a network")
    result = swept["no data"]
    assert result["code"] == 2, result["output"]
    assert "Traceback" not in result["output"]
    assert "error: no source gave " in result["output"]
    assert "to go on, put these" in result["output"]
    assert result["cpu"] < 10, "it worked for long before it asked for its data"


# --- a word where a number belongs (-1, NaN, inf: test_consistency.py) ----------------------------

GIVEN = {
    ("detection", "predict"): ["x.png"], ("mnist", "predict"): ["x.png"],
    ("active-learning", "compare"): ["entropy", "random"],
    ("active-learning", "next"): ["--data", "x"], ("playground", "add-noise"): ["--data", "x"],
    ("houdini", "import"): ["x.npz"],
}  # fmt: skip
"""What a command cannot do without."""


def is_number(hint: typing.Any) -> bool:
    """int, float, these or None, and tuples of them."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) in (typing.Union, tuple):
        return any(map(is_number, typing.get_args(hint)))
    return hint in (int, float)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_word_is_no_number(member, monkeypatch, capsys):
    """Every numeric option of every command: exit code 2 and the option's name."""
    for command, config in configs(member).items():
        for name, hint in typing.get_type_hints(config).items():
            if not is_number(hint):
                continue
            option = "-" * min(len(name), 2) + name.replace("_", "-")
            words = [*GIVEN.get((member, command), ()), option, "three"]
            monkeypatch.setattr(sys, "argv", [command, *words])
            with pytest.raises(SystemExit) as caught:
                trainloop.parse(config)
            said = capsys.readouterr()
            assert caught.value.code == 2, f"{command} {option} three"
            assert option in said.err, f"{command} {option} three: {said.err}"
            assert not said.out


def test_infinity_is_refused(monkeypatch):
    """By `parse`, for every command; which of their options: test_consistency.py."""
    monkeypatch.setattr(sys, "argv", ["train", "--lr", "inf"])
    with pytest.raises(trainloop.LabError, match="--lr must be finite, not inf"):
        trainloop.parse(configs("warmup")["train"])
