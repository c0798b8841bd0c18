"""overfit, lr-find, profile and inspect: each on a problem whose answer is known."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import warmup.inspection as inspection
import warmup.lr_find as sweeping
import warmup.overfit as overfitting
import warmup.profiling as profiling
from trainloop import LabError
from trainloop.testing import assert_resume_is_exact
from warmup.config import InspectConfig, LrFindConfig, OverfitConfig, ProfileConfig
from warmup.data import Labelled
from warmup.inspection import Probe, dead_share, draw_layers, layer_table, remarks
from warmup.lr_find import Smoothing, read_off, smoothed
from warmup.overfit import Evidence, contradictions, first_step_that_lasts, suspects


@pytest.fixture(autouse=True)
def noise(monkeypatch, tmp_path) -> Labelled:
    """300 images of noise with labels by chance: to be learned by heart or not at all."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (300, 1, 16, 16), generator=generator, dtype=torch.uint8)
    data = Labelled(images, torch.arange(300) % 10)
    for module in (overfitting, sweeping, profiling, inspection):
        monkeypatch.setattr(module, "load", lambda name: (data, data, data))
    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    return data


# --- overfit -------------------------------------------------------------------------------------

OVERFIT = OverfitConfig(steps=60, images=16, width=4, lr=2e-2)


@pytest.mark.parametrize("model", ["linear", "mlp", "cnn"])
def test_every_model_fits_noise(model, tmp_path, capsys):
    metrics = overfitting.overfit(replace(OVERFIT, model=model))
    assert metrics["accuracy"] == 1
    assert 1 <= metrics["steps_to_fit"] < 60
    assert f"from step {metrics['steps_to_fit']} on" in capsys.readouterr().out
    assert (tmp_path / "warmup/latest/overfit.png").stat().st_size > 5000


def test_a_rate_too_low_is_named(capsys):
    metrics = overfitting.overfit(replace(OVERFIT, lr=1e-7, steps=20))
    assert metrics["steps_to_fit"] is None
    assert "the loss creeps" in capsys.readouterr().out


def test_overfit_resumes_exactly(tmp_path, monkeypatch):
    short = replace(OVERFIT, steps=12)
    assert_resume_is_exact(overfitting.overfit, short, "warmup", 7, tmp_path, monkeypatch)


def test_steps_to_fit_ignores_a_wobble():
    assert first_step_that_lasts([0.5, 1.0, 0.9, 1.0, 1.0]) == 4
    assert first_step_that_lasts([1.0, 1.0]) == 1
    assert first_step_that_lasts([1.0, 0.99]) is None


def test_equal_images_of_other_labels(noise):
    images = noise.images[:6].clone()
    images[3] = images[5] = images[0]
    assert contradictions(Labelled(images, torch.tensor([0, 1, 2, 0, 4, 0]))) == 0
    assert contradictions(Labelled(images, torch.tensor([0, 1, 2, 7, 4, 5]))) == 2


GOOD = Evidence(
    losses=list(np.geomspace(2.3, 0.5, 40)), classes=10, evaluated=0.8, trained=0.8, spread=1.0,
    contradictions=0, without_gradient=[], unmoved=[],
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, "still falls"),
        ({"losses": list(np.linspace(2.300, 2.299, 40))}, "creeps"),
        ({"losses": [2.3, *([0.8, 3.0] * 20)]}, "no longer falls"),
        ({"losses": [30.0, *GOOD.losses[1:]]}, "the loss starts at 30.00"),
        ({"contradictions": 3}, "3 images are equal"),
        ({"without_gradient": ["a", "b", "c", "d", "e"]}, "a, b, c and 2 more"),
        ({"unmoved": ["head.weight"]}, "head.weight did not move"),
        ({"spread": 1e-6}, "the same answer"),
        ({"trained": 1.0}, "80% in evaluation mode"),
    ],
)
def test_suspects_follow_the_evidence(change, word):
    assert word in "\n".join(suspects(replace(GOOD, **change)))
    if change:
        assert word not in "\n".join(suspects(GOOD))


def test_evidence_of_two_faults():
    """A layer behind a detach gets no gradient; one that the optimizer does not know stays."""

    class Faulty(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(256, 8), nn.Linear(8, 10)

        def forward(self, images):
            return self.second(self.first(images.flatten(1).float() / 255).detach())

    torch.manual_seed(0)
    model = Faulty()
    data = Labelled(torch.randint(0, 256, (8, 1, 16, 16), dtype=torch.uint8), torch.arange(8))
    initial = {name: p.detach().clone() for name, p in model.named_parameters()}
    nn.functional.cross_entropy(model(data.images), data.labels).backward()
    with torch.no_grad():
        model.second.bias -= model.second.bias.grad
    found = overfitting.gather_evidence(model, data, initial, [2.3, 2.2], 0.1)
    assert found.without_gradient == ["first.weight", "first.bias"]
    assert found.unmoved == ["second.weight"]


# --- lr-find -------------------------------------------------------------------------------------


def test_sweep_of_a_known_curve():
    """loss = 1 - tanh(ln(lr / 1e-3)) falls fastest at 1e-3; a wall at 1e-1 makes that the edge."""
    rates = np.geomspace(1e-6, 1, 201)
    losses = 1 - np.tanh(np.log(rates / 1e-3)) + np.where(rates > 0.1, 10 * (rates - 0.1), 0)
    found = read_off(list(rates), smoothed(list(losses)))
    assert found.steepest == pytest.approx(1e-3, rel=0.15)
    assert 0.03 < found.lowest < 0.15, "smoothing rounds the corner off"


def test_smoothing_is_unbiased_and_does_not_shift():
    assert np.allclose(smoothed([3.0] * 50), 3.0)
    line = smoothed(list(np.arange(50.0)))
    assert np.allclose(line[10:40], np.arange(10, 40))
    running = Smoothing(0.9)
    assert [running.update(2.0) for _ in range(3)] == pytest.approx([2.0] * 3)
    other = Smoothing()
    other.load_state_dict(running.state_dict())
    assert other.update(5.0) == running.update(5.0)


def test_sweep_stops_where_the_loss_explodes(tmp_path):
    config = LrFindConfig(steps=60, low=1e-5, high=1e6, width=4, batch_size=32, shift=0)
    metrics = sweeping.lr_find(config)
    lines = [json.loads(x) for x in (tmp_path / "warmup/latest/metrics.jsonl").open()]
    rates = [line["lr"] for line in lines if "lr" in line]
    assert rates[0] == pytest.approx(1e-5)
    assert rates[1] / rates[0] == pytest.approx(1e11 ** (1 / 59))
    assert rates[-1] < 1e5, "ends early"
    assert 1e-5 < metrics["steepest"] <= metrics["lowest"] < rates[-1]


def test_sweep_that_explodes_at_once():
    with pytest.raises(LabError, match="try a lower --low"):
        smoothed([2.3, 9.0, 80.0])


# --- profile -------------------------------------------------------------------------------------


def test_profile_names_parts_and_leaves_a_trace(tmp_path, capsys):
    metrics = profiling.profile(ProfileConfig(steps=6, width=4, batch_size=32))
    parts = {name: value for name, value in metrics.items() if name.startswith("ms/")}
    assert set(parts) == {f"ms/{name}" for name in profiling.PARTS}
    assert sum(parts.values()) == pytest.approx(metrics["ms_per_step"])
    assert metrics["images_per_second"] == pytest.approx(32e3 / metrics["ms_per_step"])
    events = json.loads((tmp_path / "warmup/latest/trace.json").read_text())["traceEvents"]
    names = [event.get("name") for event in events]
    assert names.count("backward") == 2, "two of six steps are recorded"
    assert "aten::convolution_backward" in names
    assert "aten::convolution_backward" in capsys.readouterr().out


def test_operator_times_are_seconds_a_step():
    with torch.profiler.profile() as profiler:
        for _ in range(2):
            with torch.profiler.record_function("forward"):
                torch.randn(200, 200) @ torch.randn(200, 200)
    averages = profiler.key_averages()
    times = profiling.operator_times(averages, steps=2, on_gpu=False)
    assert list(times.values()) == sorted(times.values(), reverse=True)
    assert "forward" not in times
    spent = {event.key: event.self_cpu_time_total for event in averages}
    assert times["aten::mm"] == pytest.approx(spent["aten::mm"] * 1e-6 / 2)


# --- inspect -------------------------------------------------------------------------------------


class Known(nn.Module):
    """A net whose statistics are known: doubles its input, then a ReLU with one dead unit."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3, bias=False)
        self.relu = nn.ReLU()
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 2.0], [-1.0, -1.0]]))

    def forward(self, x):
        return self.relu(self.layer(x))


def test_probe_against_hand_worked_numbers():
    model = Known()
    probe = Probe(model)
    x = torch.tensor([[1.0, 3.0], [2.0, 5.0]])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(x)
    assert not probe.found, "looks only when asked to"
    probe.watching = True
    model(x).sum().backward()
    probe.before_update()
    optimizer.step()
    found = probe.after_update()
    outputs = torch.tensor([[2.0, 6.0, -4.0], [4.0, 10.0, -7.0]])
    gradient = torch.tensor([[3.0, 8.0], [3.0, 8.0], [0.0, 0.0]])  # sum of x where the unit is on
    assert found["deviation/layer"] == pytest.approx(outputs.std().item())
    assert found["dead/relu"] == pytest.approx(1 / 3)
    assert found["gradient/layer"] == pytest.approx(gradient.square().mean().sqrt().item())
    assert found["update/layer"] == pytest.approx(0.1 * gradient.norm().item() / 10**0.5)
    assert probe.after_update().keys() == {"update/layer"}, "nothing is left of the step before"


def test_a_channel_is_dead_only_if_it_is_zero_everywhere():
    maps = torch.zeros(2, 4, 3, 3)
    maps[1, 2, 0, 1] = 0.5
    assert dead_share(maps) == 0.75
    assert dead_share(torch.tensor([[0.0, 1.0], [0.0, 0.0]])) == 0.5


def test_inspect_sees_a_healthy_and_a_spoilt_training(tmp_path, capsys):
    config = InspectConfig(steps=6, every=3, model="mlp", width=4, batch_size=32, shift=0)
    inspection.inspect(config)
    assert "nothing unusual" in capsys.readouterr().out
    lines = [json.loads(x) for x in (tmp_path / "warmup/latest/metrics.jsonl").open()]
    assert [line["step"] for line in lines if "update/net.1" in line] == [1, 3, 6]
    inspection.inspect(replace(config, lr=1.0))
    assert "is overwritten" in capsys.readouterr().out


def test_inspect_resumes_exactly(tmp_path, monkeypatch):
    config = InspectConfig(steps=9, every=2, width=4, batch_size=32)
    assert_resume_is_exact(inspection.inspect, config, "warmup", 5, tmp_path, monkeypatch)


def test_remarks_name_the_layer():
    fine = {"gradient": {"a": 1.0, "b": 0.1}, "update": {"a": 1e-3, "b": 2e-3}, "dead": {"r": 0.1}}
    assert remarks(fine) == ["nothing unusual"]
    for kind, values, word in (
        ("gradient", {"a": 1.0, "b": 1e-5}, "between b and a"),
        ("update", {"a": 1e-3, "b": 1e-6}, "b: changes by 1e-06"),
        ("dead", {"r": 0.6}, "r: 60% of its units"),
    ):
        (line,) = remarks({**fine, kind: values})
        assert word in line


def test_a_model_without_relu_has_a_table_and_a_picture():
    last = {"gradient": {"net.1": 1.0}, "update": {"net.1": 1e-3}, "deviation": {"net.1": 2.0}}
    assert "net.1" in layer_table(last)
    kinds = {kind: {"net.1": ([1, 2], [0.1, 0.2])} for kind in last}
    assert [axis.get_title() for axis in draw_layers(kinds).axes]


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (OverfitConfig, {"images": 1}), (OverfitConfig, {"lr": 0.0}), (OverfitConfig, {"width": 0}),
        (LrFindConfig, {"steps": 5}), (LrFindConfig, {"low": 1.0, "high": 0.1}),
        (ProfileConfig, {"steps": 2}), (ProfileConfig, {"resume": True}),
        (InspectConfig, {"every": 0}), (InspectConfig, {"init_scale": 0.0}),
        (InspectConfig, {"weight_decay": -1.0}), (LrFindConfig, {"batch_size": 1}),
    ],
)  # fmt: skip
def test_wrong_options_are_one_line(config, wrong):
    with pytest.raises(LabError) as caught:
        config(**wrong)
    assert f"--{next(iter(wrong)).replace('_', '-')}" in str(caught.value)
    assert "\n" not in str(caught.value)
