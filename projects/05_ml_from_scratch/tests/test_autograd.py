"""Every operation against torch, in value and gradient; then the graph around them."""

import gc
import operator
import weakref

import numpy as np
import pytest
import torch
from torch.nn import functional

from from_scratch.autograd import (
    OPERATIONS,
    Config,
    Tensor,
    conv2d,
    cross_entropy,
    expression,
    max_pool2d,
    neuron,
    run,
    sum_to,
    topological_order,
)
from from_scratch.graph import layout
from trainloop import LabError


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def same_as_torch(ours, theirs, arrays, rng, atol=1e-12) -> None:
    """Value, and the gradients that a random gradient of the result gives."""
    leaves = [Tensor(array) for array in arrays]
    torch_leaves = [torch.tensor(array, requires_grad=True) for array in arrays]
    out, expected = ours(*leaves), theirs(*torch_leaves)
    assert out.shape == tuple(expected.shape)
    assert out.dtype == arrays[0].dtype
    np.testing.assert_allclose(out.value, expected.detach(), rtol=0, atol=atol)
    g = rng.standard_normal(out.shape).astype(out.dtype)
    out.backward(np.array(g))
    expected.backward(torch.tensor(g))
    for leaf, torch_leaf in zip(leaves, torch_leaves, strict=True):
        assert leaf.grad.shape == leaf.shape
        assert leaf.grad.dtype == leaf.dtype
        np.testing.assert_allclose(leaf.grad, torch_leaf.grad, rtol=0, atol=atol)


# --- operations ----------------------------------------------------------------------------------

SHAPES = [
    ((2, 3), (2, 3)),
    ((3, 1), (1, 4)),
    ((), (2, 3)),
    ((2, 3), ()),
    ((), ()),
    ((4,), (2, 3, 4)),
    ((2, 1, 4), (3, 1)),
    ((1,), (1, 1)),
    ((0, 3), (1, 3)),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("op", [operator.add, operator.sub, operator.mul, operator.truediv])
def test_arithmetic_broadcasts(rng, op, shapes, dtype):
    a, b = (np.asarray(rng.uniform(0.5, 2, shape), dtype) for shape in shapes)
    same_as_torch(op, op, [a, b], rng, atol=1e-12 if dtype == np.float64 else 1e-5)


@pytest.mark.parametrize("shapes", SHAPES)
def test_a_tensor_as_exponent(rng, shapes):
    arrays = [np.asarray(rng.uniform(0.5, 2, shape)) for shape in shapes]
    same_as_torch(operator.pow, operator.pow, arrays, rng)


@pytest.mark.parametrize(
    "op",
    [
        operator.neg,
        lambda x: x.relu(),
        lambda x: x.tanh(),
        lambda x: x.exp(),
        lambda x: (x * x + 0.1).log(),
        lambda x: x**2,
        lambda x: x**3,
        lambda x: x**1,
        lambda x: x**-2,
        lambda x: (x * x) ** 0.5,
        lambda x: 2 - x,
        lambda x: 2 / x,
        lambda x: 3 * x + 1,
        lambda x: 0.5 + x / 4,
    ],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4)])
def test_entry_by_entry(rng, op, shape, dtype):
    x = np.asarray(rng.uniform(0.3, 2, shape) * rng.choice([-1, 1], shape), dtype)
    same_as_torch(op, op, [x], rng, atol=1e-12 if dtype == np.float64 else 1e-4)


def test_where_slopes_are_chosen(rng):
    """relu at 0, and powers at 0, as in torch: no NaN."""
    zero = np.zeros(3)
    for op in (lambda x: x.relu(), lambda x: x**0, lambda x: x**1, lambda x: x**2):
        same_as_torch(op, op, [zero], rng)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), (-1, 0), (0, 1, 2)])
@pytest.mark.parametrize("name", ["sum", "mean", "amax"])
def test_over_axes(rng, name, axis, keepdims):
    def op(x):
        if axis is None and name == "amax":  # torch's wants a tuple
            return x.amax(axis=(0, 1, 2), keepdims=keepdims)
        return getattr(x, name)(axis=axis, keepdims=keepdims)

    same_as_torch(op, op, [rng.standard_normal((2, 3, 4))], rng)


def test_amax_over_everything_and_ties(rng):
    same_as_torch(lambda x: x.amax(), torch.amax, [rng.standard_normal((2, 3))], rng)
    ties = rng.integers(0, 2, (4, 5)).astype(float)
    for axis in (0, 1, (0, 1)):
        same_as_torch(*[lambda x, axis=axis: x.amax(axis=axis)] * 2, [ties], rng)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_log_softmax(rng, axis):
    x = rng.standard_normal((3, 4, 5))
    same_as_torch(*[lambda x: x.log_softmax(axis)] * 2, [x], rng)


@pytest.mark.parametrize(
    "shapes",
    [
        ((2, 3), (3, 4)),
        ((1, 3), (3, 1)),
        ((5, 2, 3), (5, 3, 4)),
        ((5, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 4)),
        ((6, 1, 2, 3), (5, 3, 4)),
        ((2, 0), (0, 3)),
    ],
)
def test_matmul(rng, shapes):
    same_as_torch(*[operator.matmul] * 2, [rng.standard_normal(s) for s in shapes], rng)


@pytest.mark.parametrize(
    "op",
    [
        lambda x: x.reshape(4, 6),
        lambda x: x.reshape(-1),
        lambda x: x.reshape(1, 2, -1, 1),
        lambda x: x[1],
        lambda x: x[:, 1:, ::2],
        lambda x: x[..., None, -1],
        lambda x: x[[0, 1, 1, 1]],
        lambda x: x[[0, 1, 1], [2, 0, 0]],
        lambda x: x[:, [0, 0]][0, 1:],
    ],
)
def test_rearranging(rng, op):
    same_as_torch(op, op, [rng.standard_normal((2, 3, 4))], rng)


def test_transpose(rng):
    x = rng.standard_normal((2, 3, 4))
    for axes in ((1, 2, 0), (0, 2, 1), (0, -1, 1), (-1, 0, 1)):
        same_as_torch(
            lambda t, axes=axes: t.transpose(*axes), lambda t, axes=axes: t.permute(axes), [x], rng
        )
    same_as_torch(lambda t: t.transpose(), lambda t: t.permute(2, 1, 0), [x], rng)
    same_as_torch(lambda t: t.T, lambda t: t.T, [x[0]], rng)


def test_a_mask_as_index(rng):
    x = rng.standard_normal((3, 4))
    mask = x > 0
    same_as_torch(lambda t: t[mask], lambda t: t[torch.tensor(mask)], [x], rng)


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 4), (5, 1)])
def test_conv2d(rng, kernel, stride, padding):
    arrays = [rng.standard_normal((2, 3, 7, 6)), rng.standard_normal((4, 3, *kernel))]
    same_as_torch(
        lambda x, w: conv2d(x, w, stride, padding),
        lambda x, w: functional.conv2d(x, w, stride=stride, padding=padding),
        arrays,
        rng,
    )


@pytest.mark.parametrize("size", [1, 2, 3])
def test_max_pool2d(rng, size):
    x = rng.standard_normal((2, 3, 7, 6))
    ours, theirs = lambda x: max_pool2d(x, size), lambda x: functional.max_pool2d(x, size)
    same_as_torch(ours, theirs, [x], rng)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e5])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_cross_entropy_of_logits_of_any_size(rng, scale, dtype):
    """An overflow would be a RuntimeWarning, hence an error here."""
    z = (scale * rng.standard_normal((6, 4))).astype(dtype)
    z[0] = scale * np.array([1, -1, 1, -1])  # ties
    labels = rng.integers(0, 4, 6)
    same_as_torch(
        lambda z: cross_entropy(z, labels),
        lambda z: functional.cross_entropy(z, torch.tensor(labels)),
        [z],
        rng,
        atol=(1e-12 if dtype == np.float64 else 1e-6) * scale,
    )


def test_cross_entropy_gradient_is_softmax_less_onehot(rng):
    z, labels = Tensor(rng.standard_normal((5, 3))), rng.integers(0, 3, 5)
    cross_entropy(z, labels).backward()
    expected = (np.exp(z.log_softmax().value) - np.eye(3)[labels]) / 5
    np.testing.assert_allclose(z.grad, expected, rtol=0, atol=1e-15)


# --- constants -----------------------------------------------------------------------------------


def test_constants_on_either_side(rng):
    c = rng.standard_normal((2, 3))
    d = torch.tensor(c)
    for op in (operator.add, operator.sub, operator.mul, operator.truediv):
        x = [rng.uniform(1, 2, 3)]
        same_as_torch(lambda t, op=op: op(t, c), lambda t, op=op: op(t, d), x, rng)
        same_as_torch(lambda t, op=op: op(c, t), lambda t, op=op: op(d, t), x, rng)
        same_as_torch(*[lambda t, op=op: op(np.float64(3), t)] * 2, x, rng)
    same_as_torch(lambda t: c @ t, lambda t: d @ t, [rng.standard_normal((3, 2))], rng)
    same_as_torch(lambda t: t @ c, lambda t: t @ d, [rng.standard_normal((3, 2))], rng)


def test_constants_take_the_dtype_and_keep_no_graph(rng):
    x = Tensor(np.ones((2, 3), np.float32))
    for y in (x * 2.5, x + np.ones(3), x / np.arange(1, 4), np.eye(2) @ x, x**2.5, 1 - x):
        assert y.dtype == np.float32
        assert y.requires_grad
    fixed = Tensor(np.ones((2, 3)), requires_grad=False)
    y = (fixed * 2 + 1).tanh() @ fixed.T
    assert not y.requires_grad
    assert y.inputs == ()
    w = Tensor(np.ones((3, 1)))
    (fixed @ w).sum().backward()
    np.testing.assert_array_equal(w.grad, np.full((3, 1), 2.0))
    assert fixed.grad is None
    with pytest.raises(LabError, match="of a constant"):
        y.sum().backward()


# --- the graph -----------------------------------------------------------------------------------


def test_several_uses_of_one_tensor(rng):
    for op in (
        lambda x: x * x,
        lambda x: x + x,
        lambda x: x - x,
        lambda x: x / (x * x + 1) + x * x * x,
        lambda x: (x.tanh() * x).exp() + x.tanh(),
        lambda x: x @ x @ x,
    ):
        same_as_torch(op, op, [rng.standard_normal((3, 3))], rng)


def test_a_ladder_of_diamonds():
    """2^60 ways lead to the leaf: whoever walks them all does not come back."""
    x = Tensor(1.0)
    y = x
    for _ in range(60):
        y = (y + y) * 0.5
    y.backward()
    assert x.grad == 1
    assert len(topological_order(y)) == 121


def test_inputs_come_first_in_the_order(rng):
    leaves = [Tensor(rng.standard_normal(shape)) for shape in ((4, 5), (4, 1), (1, 5), (1, 1))]
    order = topological_order(expression(rng.random((40, 3)), leaves))
    position = {node: i for i, node in enumerate(order)}
    assert len(position) == len(order) > 40
    for node in order:
        for parent, _ in node.inputs:
            assert not parent.requires_grad or position[parent] < position[node]


def test_a_deep_chain():
    x = Tensor(np.array([0.1, 0.2]))
    y = x
    for _ in range(5000):
        y = y + 0.001 * y
    y.sum().backward()
    np.testing.assert_allclose(x.grad, 1.001**5000, rtol=1e-10)
    del y  # takes the chain apart, without recursion too


def test_memory_is_free_at_once(rng):
    """No cycles: a step's graph would else wait for the garbage collector."""
    leaf = Tensor(rng.standard_normal((4, 5)))
    gc.disable()
    try:
        for operation in OPERATIONS:
            node = operation(leaf, leaf * 2)
            node.sum().backward()
            gone = weakref.ref(node)
            del node
            assert gone() is None
    finally:
        gc.enable()


def test_a_second_backward_adds():
    x = Tensor(np.array([1.0, 2.0]))
    y = x * x
    loss = (3 * y).sum()
    loss.backward()
    first = x.grad
    np.testing.assert_array_equal(first, [6, 12])
    loss.backward()  # the inner nodes' gradients of the first call must not flow again
    np.testing.assert_array_equal(x.grad, [12, 24])
    np.testing.assert_array_equal(y.grad, [6, 6])
    (x * 5).sum().backward()
    np.testing.assert_array_equal(x.grad, [17, 29])
    np.testing.assert_array_equal(first, [6, 12])


def test_gradients_are_read_only():
    """x + y hands one array to both."""
    x, y, g = Tensor(np.ones(2)), Tensor(np.ones(2)), np.ones(2)
    (x + y).backward(g)
    with pytest.raises(ValueError, match="read-only"):
        x.grad *= 2
    g += 1  # the caller's own
    np.testing.assert_array_equal(y.grad, [1, 1])


def test_sum_to(rng):
    for shape in ((), (1,), (4,), (3, 1), (1, 4), (3, 4), (1, 1, 1), (2, 1, 4), (2, 3, 4)):
        g = rng.standard_normal((2, 3, 4))
        leaf = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
        leaf.expand(2, 3, 4).backward(torch.tensor(g))
        np.testing.assert_allclose(sum_to(g, shape), leaf.grad, rtol=0, atol=1e-12)


def test_bad_input(rng):
    x, w = Tensor(rng.standard_normal((2, 3))), Tensor(np.ones((4, 3, 3, 3)))
    images, logits = Tensor(np.ones((2, 3, 5, 5))), Tensor(np.ones((2, 3)))
    cases = {
        "floats, not int64": lambda: Tensor(np.arange(3)),
        "floats, not bool": lambda: Tensor(True),
        "floats, not complex128": lambda: Tensor(1j),
        r"shape \(2, 3\): pass the gradient": lambda: x.backward(),
        r"gradient of shape \(3,\) for \(2, 3\)": lambda: x.backward(np.ones(3)),
        r"add: shapes \(2, 3\) and \(2,\) do not": lambda: x + np.ones(2),
        r"multiply: shapes \(2, 3\) and \(3, 2\)": lambda: x * x.T,
        r"matmul: shapes \(2, 3\) and \(2, 3\)": lambda: x @ x,
        r"matrices, not shapes \(2, 3\) and \(3,\)": lambda: x @ np.ones(3),
        "float64 and float32": lambda: x + Tensor(np.float32(1)),
        "None is neither": lambda: x + None,
        "images of 2 channels, kernels of 3": lambda: conv2d(images[:, :2], w),
        r"window of \(3, 3\) does not fit": lambda: conv2d(images[:, :, :2], w),
        "stride must be at least 1": lambda: conv2d(images, w, stride=0),
        "2 rows of logits": lambda: cross_entropy(logits, np.zeros(3, int)),
        "labels must be 0 to 2": lambda: cross_entropy(logits, np.array([0, 3])),
        "labels must be 0 to 2 ?": lambda: cross_entropy(logits, np.array([0, -1])),
    }
    for message, call in cases.items():
        with pytest.raises(LabError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    for options in ({"seed": -1}, {"graphs": 0}, {"operations": 0}):
        with pytest.raises(LabError, match="--"):
            Config(**options)


# --- the lesson ----------------------------------------------------------------------------------


def test_layout():
    loss, names, _ = neuron()
    place, edges = layout(loss)
    assert set(names) <= set(place)
    assert len(set(place.values())) == len(place), "no two at one place"
    for stops in edges:
        columns = [place[stop][0] for stop in stops]
        assert columns == list(range(columns[0], columns[-1] + 1)), "a stop in each column"
    assert max(column for column, _ in place.values()) == place[loss][0] == 0


@pytest.mark.parametrize("seed", [0, 1])
def test_the_lesson(seed):
    pictures = {}
    figures = run(Config(seed=seed, graphs=20), pictures.__setitem__)
    assert set(pictures) == {"graph"}
    assert figures["max_difference_to_torch"] < 1e-10
    assert figures["max_difference_to_central"] < 1e-7
