"""Forward, backward, steps and files, held against torch and finite differences."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from playground.net import Net, load_net, save_net
from playground.optimise import METHODS, Optimizer
from trainloop import LabError

layers = st.lists(st.integers(1, 9), min_size=0, max_size=3)


def case(hidden: list[int], rows: int, seed: int) -> tuple[Net, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    net = Net((12, *hidden, 5), seed, np.float64)
    for bias in net.biases:
        bias[:] = rng.normal(0, 0.5, bias.shape)
    return net, rng.normal(size=(rows, 12)), rng.integers(0, 5, rows)


def twin(net: Net, x: torch.Tensor, parameters: list[torch.Tensor]) -> torch.Tensor:
    """The same net in torch: logits."""
    for index in range(0, len(parameters), 2):
        x = x @ parameters[index] + parameters[index + 1]
        if index + 2 < len(parameters):
            x = F.relu(x)
    return x


def parameters(net: Net) -> list[torch.Tensor]:
    pairs = zip(net.weights, net.biases, strict=True)
    return [torch.tensor(one, requires_grad=True) for pair in pairs for one in pair]


@given(layers, st.integers(1, 7), st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_loss_and_gradient_are_torchs(hidden, rows, seed):
    net, x, labels = case(hidden, rows, seed)
    loss, right = net.loss_and_gradient(x, labels)
    ours = parameters(net)
    logits = twin(net, torch.tensor(x), ours)
    expected = F.cross_entropy(logits, torch.tensor(labels))
    expected.backward()
    assert loss == pytest.approx(expected.item(), abs=1e-12)
    assert right == (logits.argmax(1).numpy() == labels).sum()
    flat = torch.cat([one.grad.flatten() for one in ours]).numpy()
    np.testing.assert_allclose(net.gradient, flat, atol=1e-12)
    np.testing.assert_allclose(net.probabilities(x), logits.softmax(1).detach(), atol=1e-12)


def test_gradient_is_that_of_finite_differences():
    net, x, labels = case([7, 6], 5, 3)
    net.loss_and_gradient(x, labels)
    gradient, epsilon = net.gradient.copy(), 1e-6
    for index in range(net.parameters.size):
        kept = net.parameters[index]
        net.parameters[index] = kept + epsilon
        above, _ = net.loss_and_gradient(x, labels)
        net.parameters[index] = kept - epsilon
        below, _ = net.loss_and_gradient(x, labels)
        net.parameters[index] = kept
        assert gradient[index] == pytest.approx((above - below) / (2 * epsilon), abs=1e-7)


@pytest.mark.parametrize("hidden", [[], [8], [8, 6]])
def test_bytes_count_as_pixels_of_0_to_1(hidden):
    net, _, labels = case(hidden, 6, 2)
    pixels = np.random.default_rng(3).integers(0, 256, (6, 12), np.uint8)
    expected = net.loss_and_gradient(pixels / 255, labels)
    gradient = net.gradient.copy()
    assert net.loss_and_gradient(pixels, labels) == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(net.gradient, gradient, atol=1e-12)


@pytest.mark.parametrize("hidden", [[], [8], [8, 6]])
def test_input_gradient_is_torchs(hidden):
    net, x, _ = case(hidden, 1, 1)
    t = torch.tensor(x, requires_grad=True)
    logits = twin(net, t, parameters(net))
    (logits[0, 3] - logits[0, 1]).backward()
    np.testing.assert_allclose(net.input_gradient(x[0], 3, 1), t.grad[0], atol=1e-12)


def test_large_logits_do_not_overflow():
    net = Net((2, 3), dtype=np.float64)
    net.weights[0][:] = 1e4
    loss, _ = net.loss_and_gradient(np.ones((1, 2)), np.array([1]))
    assert loss == pytest.approx(np.log(3))


def test_rows_do_not_look_at_each_other():
    net, x, _ = case([8], 6, 0)
    np.testing.assert_allclose(net.probabilities(x)[2:3], net.probabilities(x[2:3]), atol=1e-12)


def test_batches_of_other_sizes_in_between_change_nothing():
    net, x, labels = case([8], 6, 0)
    net.loss_and_gradient(x, labels)
    expected = net.gradient.copy()
    for rows in (1, 2, 3, 4, 5, 6):
        net.loss_and_gradient(x[:rows], labels[:rows])
    np.testing.assert_array_equal(net.gradient, expected)


@pytest.mark.parametrize("method", METHODS)
def test_steps_are_those_of_torch(method):
    size, rng = 40, np.random.default_rng(0)
    ours, clip = rng.normal(size=size), 3.0
    theirs = torch.tensor(ours, requires_grad=True)
    peer = {
        "gradient-descent": lambda: torch.optim.SGD([theirs], 0.05),
        "momentum": lambda: torch.optim.SGD([theirs], 0.05, momentum=0.9),
        "adam": lambda: torch.optim.Adam([theirs], 0.05),
    }[method]()
    optimizer = Optimizer(method, size, clip, np.float64)
    for step in range(20):
        gradient = rng.normal(size=size) * (step % 3)
        theirs.grad = torch.tensor(gradient)
        norm = torch.nn.utils.clip_grad_norm_([theirs], clip)
        peer.step()
        assert optimizer.step(ours, gradient, 0.05) == pytest.approx(norm.item())
        np.testing.assert_allclose(ours, theirs.detach(), atol=1e-6)


def test_overfits_one_batch(drawn):
    images, labels = drawn.take(slice(0, 30))
    net = Net(seed=1)
    optimizer = Optimizer("adam", net.parameters.size)
    x = (images / 255).astype(np.float32)
    for _ in range(200):
        loss, right = net.loss_and_gradient(x, labels)
        optimizer.step(net.parameters, net.gradient, 0.01)
    assert right == 30
    assert loss < 0.01


def test_a_file_gives_the_same_net(tmp_path):
    net = Net((784, 5, 10), seed=4)
    save_net(tmp_path / "model.npz", net)
    again = load_net(tmp_path / "model.npz")
    assert again.sizes == net.sizes
    np.testing.assert_array_equal(again.parameters, net.parameters)
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]


class Evil:
    def __reduce__(self):
        return (print, ("code in a model was run",))


def _arrays(**changed) -> dict[str, np.ndarray]:
    whole = {"weight0": np.zeros((784, 10), np.float32), "bias0": np.zeros(10, np.float32)}
    return {**whole, **changed}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "damaged"),
        (b"PK\x03\x04 and then nothing", "damaged"),
        (_arrays(bias0=np.array([Evil()], dtype=object)), "damaged, or no .npz of plain arrays"),
        ({"images": np.zeros((2, 784))}, "not a model of this project"),
        (_arrays(bias0=np.zeros(9, np.float32)), "do not fit together"),
        (_arrays(weight0=np.full((784, 10), np.nan, np.float32)), "not finite"),
        (_arrays(weight0=np.zeros((783, 10), np.float32)), "not of 784 and 10"),
        (_arrays(weight0=np.zeros((784, 10))), "do not fit together"),
        (_arrays(weight0=np.zeros((784 * 8, 1000), np.float32)), "refused"),
    ],
)
def test_a_bad_file_is_refused(content, said, tmp_path, capsys):
    path = tmp_path / "model.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez_compressed(path, **content)
    with pytest.raises(LabError, match=said):
        load_net(path)
    assert "was run" not in capsys.readouterr().out


def test_a_file_cut_anywhere_is_refused(tmp_path):
    path = tmp_path / "model.npz"
    save_net(path, Net())
    content = path.read_bytes()
    for length in range(0, len(content) - 1, 2999):
        path.write_bytes(content[:length])
        with pytest.raises(LabError):
            load_net(path)
