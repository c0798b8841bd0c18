"""The perceptron in NumPy against the same one in torch: initial weights, losses, Adam's steps."""

import numpy as np
import pytest
import torch

from from_scratch import mlp
from from_scratch.autograd import Tensor
from from_scratch.mlp import (
    Adam,
    Config,
    compare,
    forward,
    he_init,
    probabilities,
    run,
    scaled,
    torch_twin,
    train,
)
from trainloop import LabError

SMALL = {"hidden": (16, 12), "batch_size": 50, "epochs": 2, "lr": 0.01}


def drawings(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A blob in one of ten places on 28x28 pixels, in noise, and which place it is."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:28, :28]
    blobs = np.stack(
        [
            np.exp(-((y - 4 - 6 * (k // 3)) ** 2 + (x - 5 - 9 * (k % 3)) ** 2) / 18)
            for k in range(10)
        ]
    )
    blobs *= 200
    labels = rng.integers(0, 10, count)
    images = blobs[labels] + rng.normal(0, 30, (count, 28, 28))
    return images.clip(0, 255).astype(np.uint8).reshape(count, 784), labels


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    return drawings(1200)


# --- the parts -----------------------------------------------------------------------------------


def test_he_keeps_the_second_moment_through_depth():
    parameters = he_init((300, 400, 400, 400, 400, 400), np.random.default_rng(0), np.float64)
    assert [p.shape for p in parameters[:4]] == [(300, 400), (400,), (400, 400), (400,)]
    X = np.random.default_rng(1).standard_normal((200, 300))
    logits = forward(parameters, X).value
    assert 0.6 < (logits**2).mean() / 2 < 1.6, "2: the last layer has no relu after it"
    for W, b in zip(parameters[::2], parameters[1::2], strict=True):
        assert W.value.var() == pytest.approx(2 / len(W.value), rel=0.02)
        assert not b.value.any()


def test_forward_against_torch(data):
    parameters = he_init((784, 20, 15, 10), np.random.default_rng(0), np.float64)
    for p in parameters[1::2]:
        p.value += np.random.default_rng(1).standard_normal(p.shape)
    X = scaled(data[0][:30], np.float64)
    expected = torch_twin(parameters)(torch.from_numpy(X))
    np.testing.assert_allclose(forward(parameters, X).value, expected.detach(), rtol=0, atol=1e-12)


def test_the_twin_has_its_own_memory():
    parameters = he_init((784, 8, 10), np.random.default_rng(0))
    twin = torch_twin(parameters)
    before = [p.detach().clone() for p in twin.parameters()]
    for p in parameters:
        p.value += 1
    assert all(torch.equal(*pair) for pair in zip(before, twin.parameters(), strict=True))


@pytest.mark.parametrize("eps", [1e-8, 1e-2])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.8)])
def test_adam_against_torch(betas, eps):
    """50 steps with changing η, on gradients of very different sizes."""
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape) for shape in ((3, 4), (4,), ())]
    ours = [Tensor(np.array(value)) for value in start]
    theirs = [torch.tensor(value, requires_grad=True) for value in start]
    optimiser = Adam(ours, betas, eps)
    expected = torch.optim.Adam(theirs, betas=betas, eps=eps)
    for step in range(50):
        expected.param_groups[0]["lr"] = rate = 0.1 / (1 + step % 7)
        for p, q in zip(ours, theirs, strict=True):
            g = rng.standard_normal(p.shape) * 10.0 ** rng.integers(-6, 3)
            p.grad, q.grad = np.asarray(g), torch.tensor(g)
        optimiser.step(rate)
        expected.step()
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.value, q.detach(), rtol=0, atol=1e-10)
            assert p.grad is None


def test_adam_works_in_place_and_in_float32():
    p = Tensor(np.array([1, -2, 1e-3], np.float32))
    memory = p.value
    optimiser = Adam([p])
    (p * p).sum().backward()
    optimiser.step(0.1)
    assert p.value is memory
    assert memory.dtype == np.float32
    np.testing.assert_allclose(memory, [0.9, -1.9, 1e-3 - 0.1], atol=1e-6)  # the first step is η


def test_scaled_is_what_torchvision_would_do():
    images = np.arange(784, dtype=np.uint8)[None]
    expected = (images / 255 - 0.1307) / 0.3081
    np.testing.assert_allclose(scaled(images, np.float64), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(scaled(images), expected, rtol=0, atol=1e-5)
    assert scaled(images).dtype == np.float32


def test_probabilities_do_not_depend_on_the_blocks(data):
    parameters = he_init((784, 8, 10), np.random.default_rng(0))
    P = probabilities(parameters, data[0])
    assert P.shape == (1200, 10)
    np.testing.assert_allclose(P.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(P[510:520], probabilities(parameters, data[0][510:520]), atol=1e-6)


# --- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_the_losses_are_torchs(data, seed):
    found = compare(Config(seed=seed, compared=40, **SMALL), *data, np.float64)
    assert found.losses.shape == (2, 40)
    assert found.difference.max() < 1e-10
    assert found.losses[0, -5:].mean() < 0.7 * found.losses[0, :5].mean(), "it does learn"
    assert not found.flips.any()
    assert (found.seconds > 0).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_in_float32_they_are_until_a_relu_differs(data, seed):
    found = compare(Config(seed=seed, compared=40, **SMALL), *data)
    first = np.flatnonzero(found.flips)[0] if found.flips.any() else 40
    assert first > 5
    assert found.difference[: first + 1].max() < 1e-5


def test_a_wrong_gradient_is_noticed(data, monkeypatch):
    """relu that lets 1% of the gradient through where it is off: the losses show it."""
    honest = Tensor.relu

    def leaky(self):
        out = honest(self)
        ((parent, rule),) = out.inputs
        out.inputs = ((parent, lambda g: rule(g) + 0.01 * g * (self.value <= 0)),)
        return out

    monkeypatch.setattr(Tensor, "relu", leaky)
    found = compare(Config(compared=40, **SMALL), *data, np.float64)
    assert found.difference[0] < 1e-12, "the first loss is before the first gradient"
    assert found.difference.max() > 1e-5
    assert found.flips[0] == 0
    assert found.flips[-1] > 0, "weights that differ turn relus on and off at other inputs"


def test_compare_ends_with_the_training(data):
    config = Config(**SMALL)  # 48 steps
    assert compare(config, *data).losses.shape == (2, 48)


def test_training_starts_as_the_comparison_does_and_learns(data, capsys):
    config = Config(compared=20, **SMALL)
    X_val, y_val = drawings(300, seed=1)
    parameters, losses, accuracies = train(config, *data, X_val, y_val)
    assert len(losses) == 48
    assert len(accuracies) == 2
    assert accuracies[-1] > 0.95
    np.testing.assert_allclose(losses[:20], compare(config, *data).losses[0], rtol=0, atol=1e-12)
    assert accuracies[-1] == (probabilities(parameters, X_val).argmax(1) == y_val).mean()
    assert "epoch  2" in capsys.readouterr().out
    again = train(config, *data, X_val, y_val)
    assert again[1] == losses, "the same seed gives the same losses"
    other = train(Config(seed=1, **SMALL), *data, X_val, y_val)
    assert other[1][0] != losses[0]


def test_one_batch_is_learnt_by_heart():
    X, y = drawings(20)
    y = np.random.default_rng(0).permutation(y)  # labels that mean nothing
    config = Config(hidden=(32,), batch_size=20, epochs=60, lr=0.01)
    parameters, losses, _ = train(config, X, y, X, y)
    assert losses[-1] < 0.01
    assert (probabilities(parameters, X).argmax(1) == y).all()


# --- the lesson ----------------------------------------------------------------------------------


def test_wrong_options():
    for options in (
        {"seed": -1},
        {"hidden": ()},
        {"hidden": (32, 0)},
        {"epochs": 0},
        {"batch_size": 0},
        {"lr": 0.0},
        {"lr": 2.0},
        {"lr": float("nan")},
        {"compared": 0},
    ):
        with pytest.raises(LabError, match=f"--{next(iter(options)).replace('_', '-')}") as caught:
            Config(**options)
        assert "\n" not in str(caught.value)


def test_the_lesson(monkeypatch):
    """On drawings in place of MNIST; test images are asked for once, after the training."""
    asked = []

    def load_images(name, split):
        asked.append((name, split))
        images, labels = drawings(1500 if split == "train" else 400, seed=len(split))
        return torch.tensor(images).reshape(-1, 1, 28, 28), torch.tensor(labels)

    monkeypatch.setattr(mlp, "load_images", load_images)
    monkeypatch.setattr(mlp, "VALIDATION", 300)
    pictures = {}
    figures = run(Config(compared=20, **SMALL), pictures.__setitem__)
    assert asked == [("mnist", "train"), ("mnist", "test")]
    assert set(pictures) == {"losses", "weights", "mistakes"}
    assert figures["greatest_loss_difference"] < 1e-10
    assert figures["test_accuracy"] > 0.95
    assert figures["validation_accuracy"] > 0.95
    assert 0 < figures["numpy_ms_per_step"] < 1000
    assert figures["torch_ms_per_step"] > 0
