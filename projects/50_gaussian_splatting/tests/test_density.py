"""Density control: which rows change, what becomes of Adam's averages, what stays as it looked."""

import math
from dataclasses import replace

import pytest
import torch

from splatting.config import TrainConfig
from splatting.density import DEAD, RESET, Adaptive, Fixed, Mcmc, Rows, shared, strategy
from splatting.gaussians import PARAMETERS
from splatting.render import Renderer
from splatting.train import make_optimizer
from trainloop import LabError

OPTIONS = TrainConfig(steps=1000, points=20, max_gaussians=200, refine_every=100, reset_every=400)


@pytest.fixture
def rows(make_gaussians) -> Rows:
    """Twenty Gaussians after a step, so that Adam has averages."""
    gaussians = make_gaussians(20)
    optimizer = make_optimizer(gaussians)
    sum((p * torch.randn_like(p)).sum() for p in gaussians.parameters()).backward()
    optimizer.step()
    optimizer.zero_grad()
    return Rows(gaussians, optimizer)


def average(rows, name="means"):
    return rows.optimizer.state[getattr(rows.gaussians, name)]["exp_avg"]


def test_rows_move_with_their_averages(rows):
    before, averages = rows.gaussians.tensors(), average(rows).clone()
    rows.keep(torch.tensor([3, 5, 7]))
    assert all(torch.equal(rows.gaussians.tensors()[n], before[n][[3, 5, 7]]) for n in PARAMETERS)
    assert torch.equal(average(rows), averages[[3, 5, 7]])
    rows.add({name: tensor[:2] for name, tensor in before.items()})
    assert len(rows.gaussians) == 5
    assert torch.equal(average(rows)[:3], averages[[3, 5, 7]])
    assert average(rows)[3:].abs().sum() == 0
    sum(p.sum() for p in rows.gaussians.parameters()).backward()
    rows.optimizer.step()
    assert not torch.equal(rows.gaussians.sh0[3:], before["sh0"][:2]), "the optimiser knows them"


def grown(rows, pull, **options):
    density = Adaptive(rows, replace(OPTIONS, **options), extent=1.0)
    density.pull, density.views = pull.clone(), torch.ones(20)
    density.after_step(400, 1e-3)
    return density


def test_small_ones_are_cloned_and_large_ones_split(rows):
    rows.gaussians.opacity_logits.data.fill_(2.0)
    rows.gaussians.log_scales.data.fill_(math.log(0.005))
    rows.gaussians.log_scales.data[1] = math.log(0.2)
    pull = torch.zeros(20)
    pull[0] = pull[1] = 1.0
    before = rows.gaussians.tensors()
    density = grown(rows, pull, reset_every=0)
    after = rows.gaussians.tensors()
    assert len(rows.gaussians) == 22
    others = [0, *range(2, 20)]
    assert torch.equal(after["means"][:19], before["means"][others]), "the split one is gone"
    assert torch.equal(after["means"][19], before["means"][0]), "a clone is the same"
    parts = after["log_scales"][20:]
    assert torch.allclose(parts.exp(), torch.full((2, 3), 0.2 / 1.6))
    assert not torch.equal(after["means"][20], after["means"][21])
    assert (after["means"][20:] - before["means"][1]).norm(dim=1).max() < 1
    assert density.pull.shape == (22,)
    assert density.pull.abs().sum() == 0


@pytest.mark.parametrize(
    ("without", "left"), [("nothing", 21), ("clone", 20), ("split", 20), ("prune", 22)]
)
def test_parts_can_be_left_out(rows, without, left):
    """One to clone, one to split, one to prune, and room for all."""
    rows.gaussians.opacity_logits.data.fill_(2.0)
    rows.gaussians.opacity_logits.data[7] = -9.0
    rows.gaussians.log_scales.data.fill_(math.log(0.005))
    rows.gaussians.log_scales.data[1] = math.log(0.2)
    pull = torch.zeros(20)
    pull[0] = pull[1] = 1.0
    grown(rows, pull, reset_every=0, without=without)
    assert len(rows.gaussians) == left


def test_parts_of_a_split_are_drawn_from_it(rows):
    """A needle along its own first axis, which is turned: so are the parts."""
    rows.gaussians.opacity_logits.data.fill_(2.0)
    rows.gaussians.log_scales.data[:] = torch.tensor([0.3, 1e-4, 1e-4]).log()
    rows.gaussians.quaternions.data[:] = torch.tensor(
        [math.cos(math.pi / 4), 0, 0, math.sin(math.pi / 4)]
    )
    centre = rows.gaussians.means.detach().clone()
    grown(rows, torch.ones(20), reset_every=0)
    offsets = rows.gaussians.means.detach() - centre.repeat(2, 1)
    assert offsets[:, 1].abs().mean() > 0.1
    assert offsets[:, [0, 2]].abs().max() < 1e-2


def test_the_strongest_come_first_where_room_is_scarce(rows):
    rows.gaussians.opacity_logits.data.fill_(2.0)
    rows.gaussians.log_scales.data.fill_(math.log(0.005))
    before = rows.gaussians.means.detach().clone()
    grown(rows, torch.arange(20.0), max_gaussians=23, reset_every=0)
    assert len(rows.gaussians) == 23
    assert torch.equal(rows.gaussians.means[20:], before[17:])


def test_the_transparent_and_the_huge_are_pruned(rows):
    rows.gaussians.log_scales.data.fill_(-3.0)
    rows.gaussians.opacity_logits.data.fill_(2.0)
    rows.gaussians.opacity_logits.data[4] = torch.tensor(0.9 * DEAD).logit()
    rows.gaussians.log_scales.data[6, 1] = 0.0
    before = rows.gaussians.means.detach().clone()
    grown(rows, torch.zeros(20), reset_every=0)
    assert torch.equal(rows.gaussians.means, before[[i for i in range(20) if i not in (4, 6)]])


def test_opacities_are_reset(rows):
    rows.gaussians.opacity_logits.data.fill_(2.0)
    rows.gaussians.opacity_logits.data[0] = -5.0
    grown(rows, torch.zeros(20))
    opacities = rows.gaussians.opacities()
    assert torch.allclose(opacities[1:], torch.full_like(opacities[1:], RESET), atol=1e-6)
    assert opacities[0] < RESET
    assert average(rows, "opacity_logits").abs().sum() == 0
    assert average(rows, "means").abs().sum() > 0


def test_an_empty_scene_is_one_line(rows):
    rows.gaussians.opacity_logits.data.fill_(-20.0)
    with pytest.raises(LabError, match="pruning at step 400 left no Gaussian"):
        grown(rows, torch.zeros(20))
    with pytest.raises(LabError, match="no Gaussian is left alive"):
        Mcmc(rows, replace(OPTIONS, mcmc=True), 1.0).after_step(400, 1e-3)


def test_the_pull_is_the_mean_over_views_that_saw_it(rows, camera):
    density = Adaptive(rows, OPTIONS, 1.0)
    rows.gaussians.means.data[0] = camera.position + 5 * (camera.position - torch.zeros(3))
    for _ in range(2):
        rendering = Renderer()(rows.gaussians, camera, torch.zeros(3))
        rendering.image.sum().backward()
        density.before_step(1, rendering, camera)
    expected = (rendering.pull() * torch.tensor([20.0, 14.0])).norm(dim=1)
    assert torch.allclose(density.mean_pull()[rendering.index], expected)
    assert density.views[0] == 0
    assert density.mean_pull()[0] == 0


@pytest.mark.parametrize("times", [1, 2, 5, 20])
def test_shared_opacity_looks_the_same(times):
    """N Gaussians in one place cover along a line through the middle what one covered."""
    opacity = torch.tensor([0.2, 0.6, 0.95])
    new, factor = shared(opacity, torch.full((3,), times))
    assert torch.allclose(1 - (1 - new.double()) ** times, opacity.double(), atol=1e-5)
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    before = (opacity.double() * (-x.square() / 2).exp()).sum(0)
    each = new.double() * (-(x / factor.double()).square() / 2).exp()
    after = (1 - (1 - each) ** times).sum(0)
    assert torch.allclose(after, before, rtol=1e-3)


def test_mcmc_moves_the_dead_and_keeps_the_picture(make_gaussians, camera):
    torch.manual_seed(0)
    gaussians = make_gaussians(40)
    gaussians.opacity_logits.data.clamp_(min=-1.0)
    gaussians.opacity_logits.data[:10] = -9.0
    rows = Rows(gaussians, make_optimizer(gaussians))
    background = torch.zeros(3)
    before = Renderer()(gaussians, camera, background).image.detach()
    density = Mcmc(rows, replace(OPTIONS, mcmc=True, max_gaussians=42), 1.0)
    density.after_step(400, 0.0)
    assert len(gaussians) == 42, "5% of 40"
    assert gaussians.opacities().min() > DEAD
    after = Renderer()(gaussians, camera, background).image.detach()
    assert (after - before).abs().mean() < 0.02 < before.mean()


def test_mcmc_noise_is_for_the_transparent(rows):
    rows.gaussians.opacity_logits.data.fill_(4.0)
    rows.gaussians.opacity_logits.data[0] = -6.0
    before = rows.gaussians.means.detach().clone()
    Mcmc(rows, replace(OPTIONS, mcmc=True), 1.0).after_step(1, 1e-3)
    moved = (rows.gaussians.means - before).norm(dim=1)
    assert moved[0] > 1e-3
    assert moved[1:].max() < 1e-4


def test_the_options_choose(rows):
    assert type(strategy(rows, OPTIONS, 1.0)) is Adaptive
    assert type(strategy(rows, replace(OPTIONS, mcmc=True), 1.0)) is Mcmc
    fixed = strategy(rows, replace(OPTIONS, fixed=True), 1.0)
    assert type(fixed) is Fixed
    fixed.after_step(400, 1e-3)
    assert len(rows.gaussians) == 20
