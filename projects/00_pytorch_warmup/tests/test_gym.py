"""The gym: every bug shows its symptom, and its check takes cures and nothing else. SPOILERS."""

import json
import runpy
import sys
from pathlib import Path

import pytest

from warmup.gym import bench, checks
from warmup.gym.cli import bugs, table
from warmup.gym.draw import draw
from warmup.gym.registry import FAULTS, PRISTINE, find
from warmup.gym.spy import Unmended
from warmup.gym.worker import curves, load, work

every_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)


# --- the scripts ---------------------------------------------------------------------------------


def last_gap(found: dict[str, list[float]]) -> float:
    """How far the second curve ends below the first."""
    first, second = found.values()
    return first[-1] - second[-1]


def loss(found: dict[str, list[float]]) -> list[float]:
    return found["training loss"]


# For each bug a measure of its symptom: at least so much in the faulty script, at most so much in
# the healthy one.
SYMPTOMS = {
    1: (lambda c: loss(c)[-1], 1.5, 0.5),
    2: (lambda c: min(loss(c)), 1.461, 0.2),
    3: (lambda c: max(abs(a - b) for a, b in zip(*c.values(), strict=True)), 0.01, 0.0),
    4: (lambda c: min(loss(c)), 2.25, 0.3),
    5: (lambda c: min(loss(c)), 0.45, 0.1),
    6: (last_gap, 0.4, 0.02),
    7: (last_gap, 0.5, 0.0),
    8: (lambda c: 1 - max(c["test accuracy"]), 0.5, 0.3),
    9: (lambda c: loss(c)[-1], 1.5, 0.3),
    10: (last_gap, 0.15, 0.1),
    11: (lambda c: min(loss(c)[0] - 2.3, loss(c)[-1]), 0.5, 0.2),
    12: (lambda c: loss(c)[-1] - min(loss(c)), 0.2, 0.05),
    13: (
        lambda c: sum(max(0.0, b - a) for a, b in zip(loss(c), loss(c)[1:], strict=False)),
        1,
        0.05,
    ),
    14: (lambda c: loss(c)[-1], 1.8, 0.1),
    15: (lambda c: max(c["validation accuracy"]) - list(c.values())[1][-1], 0.1, 0.0),
    16: (lambda c: c["digits never right"][-1], 1, 0),
}
SLOW = {3, 5, 6, 8, 12, 13}  # one seed will do


@every_fault
def test_the_symptom_shows_and_is_gone_in_the_healthy_script(fault):
    assert fault.faulty.count(fault.cure[0]) == 1
    measure, faulty_least, healthy_most = SYMPTOMS[fault.number]
    for seed in range(1 if fault.number in SLOW else 2):
        assert measure(load(fault.faulty, "faulty").main(seed)) >= faulty_least
        assert measure(load(fault.healthy, "healthy").main(seed)) <= healthy_most


def test_the_registry_is_complete_and_in_order():
    assert [fault.number for fault in FAULTS] == list(range(1, 17))
    assert [fault.name for fault in FAULTS] == sorted(path.stem for path in PRISTINE.glob("*.py"))
    assert [check.__name__ for check in checks.CHECKS] == [fault.name[3:] for fault in FAULTS]


@every_fault
def test_a_script_tells_its_story_and_does_not_give_itself_away(fault):
    story = load(fault.faulty, fault.name).__doc__
    assert "`bugs solve`" in story
    assert story.count('"') == 2, "what the colleague says"
    assert 1 <= len(fault.hints) <= 3
    assert 40 <= len(fault.faulty.splitlines()) <= 80
    text = fault.faulty.lower()
    assert not any(word in text for word in ("bug:", "fixme", "todo", "wrong:", "fault"))


@pytest.mark.parametrize("number", [1, 10])
def test_a_script_runs_alone(number, capsys):
    runpy.run_path(str(PRISTINE / f"{find(number).name}.py"), run_name="__main__")
    assert "after the first epoch" in capsys.readouterr().out


# --- the checks ----------------------------------------------------------------------------------


@every_fault
def test_the_check_rejects_the_faulty_script_and_takes_the_cured(fault):
    with pytest.raises(Unmended):
        checks.run_check(fault.number, load(fault.faulty, "faulty"))
    checks.run_check(fault.number, load(fault.healthy, "healthy"))


# The lines that the attempts below change.
BACKWARD, STEP = "            loss.backward()\n", "            optimizer.step()\n"
ZERO = "            optimizer.zero_grad()\n"
LOG = "            losses.append(loss.item())\n"
GRADS = "            for p in model.parameters():\n                p.grad "
CURVE = "    curve = []\n"
RIGHT = "    right = 0\n"
CE = "F.cross_entropy(model(images)"
SHUFFLED = "shuffled = images[torch.randperm(len(images))]\n"
POOL = "scores.softmax(dim=0)"
HIDDEN = "self.hidden = [nn.Linear(width, width) for _ in range(depth - 1)]\n"
ALL_HIDDEN = "[p for m in (model, *model.hidden) for p in m.parameters()]"
START = "images.new_zeros(len(images), self.hidden)"
FIRST = "nn.Sequential(nn.Linear(64, width)"
SELECT = "    columns = most_telling(x, ill, keep)\n"
ROWS = "    rows = torch.randperm(len(x))\n"
CUT = "    cut = int(0.7 * len(x))\n"
COLUMNS = "    return columns, rows[:cut], rows[cut:]"
EPOCHS = "    for _ in range(epochs):\n"
KEEP = "            weights = model.state_dict()\n"
KEPT = "        kept_model.load_state_dict(weights)\n"

# Attempts: the number of the bug in front, then texts to replace.
OTHER_CURES = {
    "1 at the end": [(STEP, STEP + "            model.zero_grad()\n")],
    "1 None": [(BACKWARD, GRADS + "= None\n" + BACKWARD)],
    "1 zeros": [(BACKWARD, "            optimizer.zero_grad(set_to_none=False)\n" + BACKWARD)],
    "2 log": [("nn.Softmax", "nn.LogSoftmax"), ("F.cross_entropy(", "F.nll_loss(")],
    "2 log later": [(CE, "F.nll_loss(model(images).log()")],
    "3 train(False)": [(RIGHT, RIGHT + "    model.train(False)\n")],
    "3 in train": [("        first.append", "        model.eval()\n        first.append")],
    "4 both": [
        (SHUFFLED, "order = torch.randperm(len(images))\n        " + SHUFFLED),
        ("images[torch.randperm(len(images))]", "images[order]"),
        ("labels.split", "labels[order].split"),
    ],
    "5 target": [("- target)", "- target[:, None])")],
    "5 data": [("torch.sin(2 * x[:, 0]) + noise", "torch.sin(2 * x) + noise[:, None]")],
    "5 train": [("model(x[picked])", "model(x[picked]).squeeze()")],
    "6 by hand": [(POOL, "scores.exp() / scores.exp().sum(1, keepdim=True)")],
    "7 Sequential": [(HIDDEN, HIDDEN + "        self.hidden = nn.Sequential(*self.hidden)\n")],
    "8 at the start": [(".detach()", ""), (START, START + ".detach()")],
    "9 the other": [("self.layers((images - MEAN) / STD)", "self.layers(images)")],
    "10 scikit-learn": [
        ("import torch\n", "import torch\nfrom sklearn.model_selection import train_test_split\n"),
        (SELECT, ""),
        (ROWS, "    rows, test = train_test_split(torch.arange(len(x)), test_size=0.3)\n"),
        (CUT, "    columns = most_telling(x[rows], ill[rows], keep)\n"),
        (COLUMNS, "    return columns, rows, test"),
    ],
    "11 another rate": [("lr: float = 0.3", "lr: float = 0.01")],
    "11 SGD": [("optim.Adam", "optim.SGD")],
    "12 clone": [("augment(images)", "augment(images.clone())")],
    "12 add": [("images += noise * ", "images = images + noise * ")],
    "13 sum": [("labels[picked])", 'labels[picked], reduction="sum") / len(batch)')],
    "13 gradients": [
        ("loss.backward()", "(loss * len(picked)).backward()"),
        (STEP, GRADS + "/= len(batch)\n" + STEP),
    ],
    "14 by batch": [("gamma=0.8", "gamma=0.8 ** (1 / -(-len(images) // batch_size))")],
    "15 deepcopy": [
        ("import torch\n", "import copy\n\nimport torch\n"),
        (KEEP, "            weights = copy.deepcopy(model.state_dict())\n"),
    ],
    "16 pop": [("    return nn.Sequential", "    layers.pop()\n    return nn.Sequential")],
}

# What one tries in despair; first a part of what the check must answer.
NO_CURES = {
    "1 smaller rate": ["times as long", ("lr: float = 0.1", "lr: float = 0.001")],
    "1 too late": ["leaves the parameters", (STEP, ZERO + STEP)],
    "1 by epoch": ["step 2", ("losses = []", "losses = []\n        optimizer.zero_grad()")],
    "1 curve by hand": ["makes no step", (CURVE, "    return [1 / i for i in range(1, epochs)]\n")],
    "1 one batch": [r"uses \d+ of the 200", (LOG, LOG + "            break\n")],
    "2 subtract": ["loss_of says", ("labels)\n\n\ndef train", "labels) - 1.461\n\n\ndef train")],
    "2 sharper": ["loss_of says", (CE, "F.cross_entropy(20 * model(images)")],
    "3 no dropout": ["lost", ("Dropout(0.5)", "Dropout(0)"), (RIGHT, RIGHT + "    model.eval()\n")],
    "3 seeded": ["as in training", (RIGHT, RIGHT + "    torch.manual_seed(0)\n")],
    "3 never trained": ["meant for its use", ("model.train()", "model.eval()")],
    "3 half": ["as in training", (RIGHT, RIGHT + "    model[1].eval()\n")],
    "4 no shuffling": ["same order", (SHUFFLED, "shuffled = images\n")],
    "5 one by one": ["times as long", ("batch_size: int = 50", "batch_size: int = 1")],
    "6 plain mean": ["not weighted", (POOL, "torch.full_like(scores, 1 / scores.shape[1])")],
    "6 sigmoid": ["no mean", (POOL, "scores.sigmoid()")],
    "6 elsewhere": [
        "comes alone",
        (POOL, "scores.softmax(dim=1)"),
        ("[:, :, 0])", "[:, :, 0].softmax(dim=0))"),
    ],
    "7 optimised": ["not its parameters", ("model.parameters(), lr", ALL_HIDDEN + ", lr")],
    "7 shallow": ["as deep", (HIDDEN, "self.hidden = []\n")],
    "8 wider": ["gradient says", ("hidden: int = 32", "hidden: int = 128")],
    "8 elsewhere": ["gradient says", (".detach()", ""), ("head(state)", "head(state.detach())")],
    "9 faster": ["mean -0.8", ("lr=0.05", "lr=0.5")],
    "9 off centre": ["mean 0.8", ("layers((images - MEAN) / STD)", "layers(images + 0.8)")],
    "9 BatchNorm": ["scaled alike", (FIRST, FIRST.replace("(", "(nn.BatchNorm1d(64), ", 1))],
    "10 fewer": ["there were 105, 45 and 40", ("keep: int = 40", "keep: int = 5")],
    "10 first ones": ["not chosen", (SELECT, "    columns = torch.arange(keep)\n")],
    "10 by the test": [
        "by a coin",
        (SELECT, ""),
        (CUT, CUT + "    columns = most_telling(x[rows[cut:]], ill[rows[cut:]], keep)\n"),
    ],
    "10 all are tested": ["both trained on", ("rows[cut:]\n", "rows\n")],
    "11 standstill": ["still cost", ("lr: float = 0.3", "lr: float = 1e-6")],
    "12 no noise": ["without noise", ("noise: float = 0.15", "noise: float = 0.0")],
    "12 one clone": ["deviation of", (EPOCHS, "    images = images.clone()\n" + EPOCHS)],
    "12 one noise": [
        "same in every epoch",
        (EPOCHS, "    noisy = augment(images.clone())\n" + EPOCHS),
        ("        noisy = augment(images)\n", ""),
    ],
    "13 by 4": ["11 examples", ("loss.backward()", "(loss / (batch_size / portion)).backward()")],
    "13 smaller rate": ["times as long", ("lr: float = 0.1", "lr: float = 0.01")],
    "13 at once": ["memory can hold", ("batch.split(portion)", "[batch]")],
    "14 none": ["with 5 batches", ("            schedule.step()\n", "")],
    "14 tuned": ["with 10 batches", ("gamma=0.8", "gamma=0.8 ** (1 / 5)")],
    "15 early stop": [
        "in every epoch",
        (KEPT, "        if current[-1] < best:\n            break\n" + KEPT),
    ],
    "15 shallow": ["the best epoch", (KEEP, "            weights = dict(model.state_dict())\n")],
    "16 leaky": ["outputs below 0", ("nn.ReLU()", "nn.LeakyReLU()")],
    "16 linear": ["linear one", (", nn.ReLU()]", "]")],
}


def check_attempt(name: str, changes: list[tuple[str, str]]) -> None:
    """Hold the script, each old text replaced by the new, against its check."""
    number = int(name.split()[0])
    text = find(number).faulty
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    checks.run_check(number, load(text, name))


@pytest.mark.parametrize("name", OTHER_CURES)
def test_other_cures_are_taken_too(name):
    check_attempt(name, OTHER_CURES[name])


@pytest.mark.parametrize("name", NO_CURES)
def test_what_is_no_cure_is_rejected(name):
    message, *changes = NO_CURES[name]
    with pytest.raises(Unmended, match=message):
        check_attempt(name, changes)


# --- the commands --------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The folder of the working copies, empty."""
    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    return tmp_path / "warmup-gym"


@pytest.fixture
def inside(monkeypatch) -> None:
    """Scripts are run in this process: quick."""
    monkeypatch.setattr(
        bench, "launch", lambda task, fault, path, _: work(task, fault.number, path)
    )


@pytest.fixture
def call(monkeypatch, capsys):
    """Call `bugs` with arguments; gives exit code, output, errors."""

    def called(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bugs", *map(str, arguments)])
        code = 0
        try:
            bugs()
        except SystemExit as end:
            code = end.code or 0
        found = capsys.readouterr()
        return code, found.out, found.err

    return called


def test_run_shows_both_scripts_and_gives_nothing_away(here, inside, call):
    fault = find(9)
    code, out, _ = call("run", 9)
    assert code == 0
    assert (here / f"{fault.name}.py").read_text() == fault.faulty
    assert (here / f"{fault.name}.png").stat().st_size > 10_000
    row = next(line for line in out.splitlines() if line.startswith("training loss"))
    mine, healthy = load(fault.faulty, "").main(), load(fault.healthy, "").main()
    expected = [loss(c)[i] for c in (mine, healthy) for i in (0, -1)]
    assert [float(cell) for cell in row.split()[2:]] == pytest.approx(expected, abs=2e-3)
    for secret in (fault.cure[0].strip(), fault.lesson[:30], *fault.hints):
        assert secret not in out


def test_a_bug_is_mended_and_remembered(here, inside, call):
    assert "0 of 16" in call("list")[1]
    code, out, _ = call("solve", 2)
    assert code == 1
    assert out.startswith("not yet: ten examples known by heart cost 1.46")
    path = here / "02_never_sure.py"
    path.write_text(path.read_text().replace(*find(2).cure))
    code, out, _ = call("solve", 2)
    assert code == 0
    assert "log_softmax itself" in out, "the lesson"
    assert "Next: uv run --package warmup bugs run 1" in out
    out = call("list")[1]
    assert [line[:2] for line in out.splitlines() if line[4:10] == "solved"] == [" 2"]


def test_praise_when_all_are_solved(here, inside, call):
    for fault in FAULTS[:-1]:
        bench.mark_solved(fault)
    bench.working_copy(find(16)).write_text(find(16).healthy)
    assert "All 16 solved" in call("solve", 16)[1]


def test_reset_loses_nothing(here, call):
    path = bench.working_copy(find(3))
    assert call("reset", 3)[0] == 0
    assert [p.name for p in here.iterdir()] == [path.name], "nothing to keep"
    for version in ("first", "second"):
        path.write_text(version)
        assert call("reset", 3)[0] == 0
        assert path.read_text() == find(3).faulty
    kept = sorted(p.read_text() for p in here.glob("*.bak*"))
    assert kept == ["first", "second"]


def test_a_deleted_file_is_handed_out_again(here, inside, call):
    bench.working_copy(find(7)).unlink()
    assert call("solve", 7)[0] == 1
    assert bench.working_copy(find(7)).read_text() == find(7).faulty


def test_hints_grow(call):
    outputs = [call("hint", 5, "--level", level)[1] for level in (1, 2, 3)]
    assert all(hint in out for hint, out in zip(find(5).hints, outputs, strict=True))
    assert call("hint", 5)[1] == outputs[0]
    assert "--level 2" in outputs[0]
    assert "more:" not in outputs[2]


@pytest.mark.parametrize(
    "arguments",
    [("run", 0), ("solve", 17), ("hint", -1), ("reset", 99), ("hint", 1, "--level", 4),
     ("run", 1, "--seconds", 0)],
)  # fmt: skip
def test_misuse_is_one_line(here, call, arguments):
    code, out, err = call(*arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_damaged_record_is_one_line(here, call):
    (bench.folder() / "solved.json").write_text("{")
    code, _, err = call("list")
    assert code == 2
    assert "damaged" in err


BROKEN = {
    "syntax": ("def train(:\n", "01_restless_loss.py, line 1: "),
    "no function": ("x = 1\n", "has no train() any more"),
    "other arguments": ("make_model = lambda: 1\ndef train(): ...\n", "keep the names"),
    "crash": (find(1).faulty.replace("lr=lr", "lr=rate"), "NameError: name 'rate' is not defined"),
    "exit": ("raise SystemExit(3)\n", "SystemExit: 3"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_script_that_cannot_be_run_is_told_in_its_own_lines(here, inside, call, case):
    source, message = BROKEN[case]
    bench.working_copy(find(1)).write_text(source)
    code, out, err = call("solve", 1)
    assert code == 1
    assert message in out
    assert "spy.py" not in out + err, "no line of the gym's own"
    assert "checks.py" not in out + err
    if case == "crash":
        line = 1 + source[: source.index("lr=rate")].count("\n")
        assert f'01_restless_loss.py", line {line}, in train' in out


def test_curves_that_are_not_numbers_and_others_than_expected():
    mine = {"training loss": [1.0, float("nan"), float("inf")], "mine": []}
    healthy = {"training loss": [2.0, 1.0, 0.5], "test accuracy": [0.1, 0.2, 0.3]}
    figure = draw(mine, healthy, "symptom", "question")
    assert [len(axis.lines) for axis in figure.axes] == [2, 1]
    assert str(figure.axes[0].lines[1].get_ydata().tolist()) == "[1.0, nan, nan]"
    assert [line.split()[-4:] for line in table(mine, healthy).splitlines()[1:]] == [
        ["1.000", "inf", "2.000", "0.500"],
        ["-", "-", "0.100", "0.300"],
        ["-", "-", "-", "-"],
    ]


# --- in a process of its own ---------------------------------------------------------------------


def test_an_endless_loop_is_stopped_and_its_line_told(here, call):
    bench.working_copy(find(1)).write_text("x = 1\nwhile x:\n    x = 1\n")
    code, out, _ = call("solve", 1, "--seconds", 1)
    assert code == 1
    assert "01_restless_loss.py was still running after 1 seconds, it was at line " in out
    assert int(out.split()[-1]) in (2, 3)


def test_a_run_in_a_process_of_its_own(here, capfd):
    fault = find(10)
    path = bench.working_copy(fault)
    path.write_text("print('my own print')\n" + fault.healthy)
    answer = bench.launch("run", fault, path, 60)
    assert answer["mine"] == answer["healthy"] == curves(load(fault.healthy, "healthy"))
    assert json.dumps(answer)
    assert "my own print" in capfd.readouterr().out


def test_a_script_that_ends_its_process(here):
    path = bench.working_copy(find(1))
    path.write_text("import os\nos._exit(7)\n")
    assert "exit code 7" in bench.launch("check", find(1), path, 60)["broken"]
