"""Guidance, seeds, and samples that do not depend on their batch."""

from dataclasses import replace

import pytest
import torch

from diffusion.config import Plan
from diffusion.sampling import Denoiser, Streams, generate, trajectory
from trainloop import LabError

PLANS = [
    Plan("ddpm", 10), Plan("ddim", 5), Plan("ddim", 5, eta=0.7), Plan("heun", 5), Plan("dpm", 6),
    Plan("euler", 5), Plan("dpm", 6, guidance=2.5), Plan("ddpm", 50),
]  # fmt: skip


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("shape", [(1, 8, 8), (2,)])
def test_a_sample_is_the_same_in_any_batch(plan, shape, make_trained):
    trained = make_trained(shape, classes=10 if len(shape) == 3 else 0)
    labels = trained.labels(7)
    whole = generate(trained, plan, labels, seed=3)
    assert torch.allclose(generate(trained, plan, labels, seed=3, batch=3), whole, atol=1e-4)
    (*_, last) = trajectory(trained, plan, labels[5:6], seed=3, first=5)
    assert torch.allclose(last.x, whole[5:6], atol=1e-4)
    assert torch.pdist(whole.flatten(1)).min() > 1e-2, "and no two are alike"


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_the_seed_decides(plan, make_trained):
    trained = make_trained()
    labels = trained.labels(2)
    first = generate(trained, plan, labels, seed=1)
    assert torch.equal(generate(trained, plan, labels, seed=1), first)
    assert (generate(trained, plan, labels, seed=2) - first).abs().max() > 0.01


def test_streams():
    streams = Streams(0, range(3, 5), (2, 2), torch.device("cpu"))
    first, second = streams(), streams()
    assert first.shape == (2, 2, 2)
    assert not torch.equal(first, second)
    alone = Streams(0, range(4, 5), (2, 2), torch.device("cpu"))
    assert torch.equal(alone(), first[1:])
    assert torch.equal(alone(), second[1:])
    many = Streams(7, range(4000), (4,), torch.device("cpu"))()
    assert many.mean().item() == pytest.approx(0, abs=0.03)
    assert many.std().item() == pytest.approx(1, abs=0.03)


def test_guidance_is_a_line_through_both_answers(make_trained):
    trained = make_trained()
    x, labels = torch.randn(3, 1, 8, 8), torch.tensor([1, 2, 3])
    times = torch.tensor([20, 20, 20])
    with torch.no_grad():
        free, labelled, far = (
            Denoiser(trained, labels, guidance)._predict(x, times) for guidance in (0.0, 1.0, 3.0)
        )
    assert (labelled - free).abs().max() > 1e-3
    assert torch.allclose(far, free + 3 * (labelled - free), atol=1e-4)


def test_images_are_kept_in_range_and_points_are_not(make_trained):
    labels = torch.tensor([0, 0])
    for shape in ((1, 8, 8), (2,)):
        trained = make_trained(shape)
        denoise = Denoiser(trained, labels)
        x_t = 5 * torch.randn(2, *shape)
        with torch.no_grad():
            pair = denoise(x_t, 40)
        assert (pair.x_0.abs().max() <= 1) == (len(shape) == 3)
        a, s = trained.process.at(torch.tensor([40, 40]), x_t)
        assert torch.allclose(a * pair.x_0 + s * pair.eps, x_t, atol=1e-4)


def test_all_noise_first_and_time_0_last(make_trained):
    states = list(trajectory(make_trained(), Plan("ddim", 5), torch.tensor([4])))
    assert [state.t for state in states] == [50, 40, 30, 20, 10, 0]
    assert torch.equal(states[-1].x, states[-1].x_0)


def test_more_steps_than_the_process_has(make_trained):
    with pytest.raises(LabError, match="--steps must be 1 to 50"):
        generate(make_trained(), Plan("ddim", 51), torch.tensor([0]))


def test_labels_come_in_turn(make_trained):
    assert make_trained(classes=3).labels(5).tolist() == [0, 1, 2, 0, 1]
    assert make_trained(classes=0).labels(3).tolist() == [0, 0, 0]


def test_a_perfect_network_of_one_image_draws_it(make_trained):
    """If all data are one image, v is known, and every sampler must end there."""
    trained = make_trained()
    image = torch.rand(1, 1, 8, 8) * 2 - 1

    class Knows(torch.nn.Module):
        def forward(self, x, t, label):
            a, s = trained.process.at(t, x)
            return a * (x - a * image) / s - s * image

    perfect = replace(trained, model=Knows())
    for plan in PLANS:
        drawn = generate(perfect, plan, torch.tensor([0, 1]))
        assert torch.allclose(drawn, image.expand(2, -1, -1, -1), atol=1e-4), plan
