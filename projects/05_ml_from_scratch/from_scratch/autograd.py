"""Reverse-mode automatic differentiation on arrays: a tensor that remembers how it was made.

Graph            each operation makes a node: its value, its inputs, and a rule for each of them.
Rule             y = f(x) with Jacobian J = ∂y/∂x, and g = ∂L/∂y in y's shape: the rule returns
                 ∂L/∂x = Jᵀg in x's shape, the vector-Jacobian product. J itself is never built.
Order            from the loss backwards, each node after all that use it (reverse topological
                 order). All gradients of one number cost a small multiple of that number.
Several uses     a tensor that is used twice gets the sum of both gradients.
Broadcasting     (3, 1) + (1, 4) uses each entry several times: g is summed over those axes.
Convolution      windows of the image as rows of a matrix, times the kernels as columns (im2col).
                 The windows' rule adds each window's gradient back where it was read (col2im).
Cross-entropy    −log softmax(z)_y = log Σ_k exp(z_k) − z_y, the maximum taken out before exp. Its
                 gradient comes out as softmax(z) − onehot(y), over N for the mean.

Sources: Baydin, Pearlmutter, Radul, Siskind, "Automatic Differentiation in Machine Learning: a
Survey", JMLR 18, 2018, sec. 3.2; the form follows Karpathy's micrograd, which is on scalars.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from numpy.lib.stride_tricks import sliding_window_view

from trainloop import LabError, check

Rule = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Hold the engine's gradients against torch's and against differences, and draw a graph."""

    seed: int = 0
    """Draws the expressions that are compared."""
    graphs: int = 100
    """Random expressions."""
    operations: int = 30
    """Operations in each of them."""

    def __post_init__(self) -> None:
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        check(self.graphs >= 1, f"--graphs must be at least 1, not {self.graphs}")
        check(self.operations >= 1, f"--operations must be at least 1, not {self.operations}")


# --- the engine ----------------------------------------------------------------------------------


class Tensor:
    """An array in a graph.

    Numbers and arrays in an operation with a tensor are constants of its dtype, without a gradient.
    What is made of constants only is a constant, and keeps no graph.

    Args:
        value: floats of any shape; an array is not copied.
        requires_grad: False makes a constant.

    Attributes:
        grad: the gradient in the value's shape, None before backward(). Each backward() adds to
            it: set it to None between two steps. Gradients share memory, hence are read-only.
        op: the operation's name; empty for a leaf.
        inputs: the operation's inputs, each with its rule.

    Raises:
        LabError: integer values; shapes or dtypes in an operation that do not go together.
    """

    __array_ufunc__ = None  # array * tensor: NumPy leaves it to the tensor

    def __init__(self, value, requires_grad: bool = True) -> None:
        self.value = np.asarray(value)
        kind = self.value.dtype
        if kind.kind != "f":  # not check(): writing its message takes longer than a small sum
            raise LabError(f"a tensor holds floats, not {kind}: write 1.0 or .astype(float)")
        self.requires_grad = requires_grad
        self.grad: np.ndarray | None = None
        self.op = ""
        self.inputs: tuple[tuple[Tensor, Rule], ...] = ()

    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: self.value.dtype)

    def __repr__(self) -> str:
        return f"Tensor({self.op or 'leaf'}, {self.value!r})"

    def backward(self, grad: np.ndarray | None = None) -> None:
        """Add ∂L/∂t to t.grad for every tensor t that this one was made of, itself included.

        Args:
            grad: ∂L/∂self, in this shape. Left out, L is this tensor, and it must be one number.
        """
        check(self.requires_grad, "backward() of a constant: nothing it is made of has a gradient")
        if grad is None:
            hint = "pass the gradient of L in it, or take its .sum() first"
            check(self.value.size == 1, f"backward() of a tensor of shape {self.shape}: {hint}")
            grad = np.ones_like(self.value)
        check(grad.shape == self.shape, f"a gradient of shape {grad.shape} for {self.shape}")
        arrived = {self: np.array(grad, self.dtype)}  # of this call: an older grad must not flow on
        for node in reversed(topological_order(self)):
            g = np.asarray(arrived.pop(node))  # NumPy makes scalars of 0-d arrays
            g.flags.writeable = False
            node.grad = g if node.grad is None else np.asarray(node.grad + g)
            for parent, rule in node.inputs:
                if parent.requires_grad:
                    part = sum_to(np.asarray(rule(g)), parent.shape)
                    arrived[parent] = arrived[parent] + part if parent in arrived else part

    # Entry by entry, with broadcasting. Rules answer in the result's shape; sum_to does the rest.

    def __add__(self, other) -> "Tensor":
        a, b, y = combine(np.add, self, other)
        return record("+", y, (a, lambda g: g), (b, lambda g: g))

    def __sub__(self, other) -> "Tensor":
        a, b, y = combine(np.subtract, self, other)
        return record("-", y, (a, lambda g: g), (b, lambda g: -g))

    def __mul__(self, other) -> "Tensor":
        a, b, y = combine(np.multiply, self, other)
        return record("*", y, (a, lambda g: g * b.value), (b, lambda g: g * a.value))

    def __truediv__(self, other) -> "Tensor":
        a, b, y = combine(np.divide, self, other)
        return record("/", y, (a, lambda g: g / b.value), (b, lambda g: -g * y / b.value))

    def __neg__(self) -> "Tensor":
        return record("neg", -self.value, (self, lambda g: -g))

    def __pow__(self, exponent) -> "Tensor":
        """To a number; or to a tensor, if this one is positive."""
        if isinstance(exponent, Tensor):
            return (self.log() * exponent).exp()
        x, p = self.value, float(exponent)
        lower = p - 1 if p else 1.0  # x⁰ is flat at 0, too, where 0 · x⁻¹ would be NaN
        return record(f"** {p:g}", x**p, (self, lambda g: g * (p * x**lower)))

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other) -> "Tensor":
        return constant(other, self.dtype) - self

    def __rtruediv__(self, other) -> "Tensor":
        return constant(other, self.dtype) / self

    def relu(self) -> "Tensor":
        y = np.maximum(self.value, 0)
        return record("relu", y, (self, lambda g: g * (y > 0)))

    def tanh(self) -> "Tensor":
        y = np.tanh(self.value)
        return record("tanh", y, (self, lambda g: g * (1 - y * y)))

    def exp(self) -> "Tensor":
        y = np.exp(self.value)
        return record("exp", y, (self, lambda g: g * y))

    def log(self) -> "Tensor":
        x = self.value
        return record("log", np.log(x), (self, lambda g: g / x))

    # Matrices: (*batch, n, k) @ (*batch, k, m) -> (*batch, n, m); the batches broadcast.

    def __matmul__(self, other) -> "Tensor":
        a, b, y = combine(np.matmul, self, other)
        fit = f"@ takes matrices, not shapes {a.shape} and {b.shape}: .reshape() vectors first"
        check(min(a.value.ndim, b.value.ndim) >= 2, fit)
        swap = lambda t: t.value.swapaxes(-1, -2)  # noqa: E731
        return record("@", y, (a, lambda g: g @ swap(b)), (b, lambda g: swap(a) @ g))

    def __rmatmul__(self, other) -> "Tensor":
        return constant(other, self.dtype) @ self

    # Over axes: a number, a tuple, or None for all.

    def sum(self, axis=None, keepdims: bool = False) -> "Tensor":
        return reduced(np.sum, self, axis, keepdims, lambda g, x, y: g)

    def mean(self, axis=None, keepdims: bool = False) -> "Tensor":
        return reduced(np.mean, self, axis, keepdims, lambda g, x, y: g * (y.size / x.size))

    def amax(self, axis=None, keepdims: bool = False) -> "Tensor":
        """The greatest; equal ones share its gradient, as in torch.amax."""

        def rule(g: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
            return g * (x == y) / np.sum(x == y, axis, x.dtype, keepdims=True)

        return reduced(np.amax, self, axis, keepdims, rule)

    def log_softmax(self, axis: int = -1) -> "Tensor":
        """z − log Σ exp(z), for logits of any size."""
        z = self.value - self.value.max(axis, keepdims=True)  # exp(710) would overflow
        y = z - np.log(np.exp(z).sum(axis, keepdims=True))
        rule = lambda g: g - np.exp(y) * g.sum(axis, keepdims=True)  # noqa: E731
        return record("log_softmax", y, (self, rule))

    # The same numbers elsewhere.

    def reshape(self, *shape: int) -> "Tensor":
        x = self.value
        return record("reshape", x.reshape(shape), (self, lambda g: g.reshape(x.shape)))

    def transpose(self, *axes: int) -> "Tensor":
        """Axes in this order; none given: reversed, as .T does."""
        ndim = self.value.ndim
        axes = tuple(axis % ndim for axis in axes or range(ndim)[::-1])
        back = np.argsort(axes)
        return record("transpose", self.value.transpose(axes), (self, lambda g: g.transpose(back)))

    T = property(transpose)

    def __getitem__(self, key) -> "Tensor":
        """By slices, or by arrays of indices, which may repeat."""
        x = self.value

        def rule(g: np.ndarray) -> np.ndarray:
            into = np.zeros_like(x)
            np.add.at(into, key, g)  # `into[key] += g` would count a repeated index once
            return into

        return record("[ ]", x[key], (self, rule))


def record(op: str, value, *inputs: tuple[Tensor, Rule]) -> Tensor:
    """The node of an operation. A rule holds arrays, never the node itself.

    That would be a cycle, and memory would wait for Python's garbage collector.
    """
    out = Tensor(value, any(parent.requires_grad for parent, _ in inputs))
    if out.requires_grad:
        out.op, out.inputs = op, inputs
    return out


def constant(value, dtype: np.dtype) -> Tensor:
    """A number or an array as a tensor without a gradient; a tensor as it is."""
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    check(array.dtype.kind in "fiub", f"{value!r} is neither a tensor nor numbers")
    return Tensor(array.astype(dtype, copy=False), requires_grad=False)


def combine(function: np.ufunc, a: Tensor, b) -> tuple[Tensor, Tensor, np.ndarray]:
    """Both operands as tensors, and what NumPy makes of their values."""
    b = constant(b, a.dtype)
    if a.dtype != b.dtype:
        raise LabError(f"{function.__name__} of {a.dtype} and {b.dtype}: use one dtype in a graph")
    try:
        return a, b, np.asarray(function(a.value, b.value))
    except ValueError as error:
        fit = f"shapes {a.shape} and {b.shape} do not go together"
        raise LabError(f"{function.__name__}: {fit}") from error


def reduced(function: Callable, a: Tensor, axis, keepdims: bool, rule: Callable) -> Tensor:
    """The node of a reduction y of x, for a rule of (g, x, y) that may leave y's axes of size 1."""
    x = a.value
    y = function(x, axis, keepdims=True)
    spread = lambda g: np.broadcast_to(rule(g.reshape(y.shape), x, y), x.shape)  # noqa: E731
    return record(function.__name__, y if keepdims else y.squeeze(axis), (a, spread))


def sum_to(g: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The sum over the axes along which an array of this shape was broadcast to g's."""
    if g.shape == shape:
        return g
    front = g.ndim - len(shape)  # axes that broadcasting put in front
    stretched = (front + i for i, size in enumerate(shape) if size == 1)
    return np.asarray(g.sum((*range(front), *stretched))).reshape(shape)


def topological_order(last: Tensor) -> list[Tensor]:
    """Every tensor with a gradient behind `last`, each after its inputs.

    Depth first with a stack of its own: recursion would end at a graph a thousand deep.
    """
    order, seen, stack = [], set(), [(last, False)]
    while stack:
        node, inputs_done = stack.pop()
        if inputs_done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((parent, False) for parent, _ in node.inputs if parent.requires_grad)
    return order


# --- for images ----------------------------------------------------------------------------------


def pad(x: Float[Tensor, "B C H W"], size: int) -> Float[Tensor, "B C H2 W2"]:
    """`size` zeros around each image."""
    inside = (..., slice(size, size + x.shape[2]), slice(size, size + x.shape[3]))
    around = ((0, 0), (0, 0), (size, size), (size, size))
    return record("pad", np.pad(x.value, around), (x, lambda g: g[inside]))


def windows(
    x: Float[Tensor, "B C H W"], size: tuple[int, int], stride: int
) -> Float[Tensor, "B C H2 W2 h w"]:
    """Every `stride`-th window of each channel, as a view: nothing is copied."""
    check(stride >= 1, f"the stride must be at least 1, not {stride}")
    fits = 1 <= size[0] <= x.shape[2] and 1 <= size[1] <= x.shape[3]
    check(fits, f"a window of {size} does not fit into an image of {x.shape[2:]}")
    view = sliding_window_view(x.value, size, axis=(2, 3))[:, :, ::stride, ::stride]
    shape, H2, W2 = x.shape, *view.shape[2:4]

    def rule(g: np.ndarray) -> np.ndarray:
        into = np.zeros(shape, g.dtype)
        for u, v in np.ndindex(size):  # one pixel of all windows at a time: these do not overlap
            rows, columns = slice(u, u + H2 * stride, stride), slice(v, v + W2 * stride, stride)
            into[:, :, rows, columns] += g[..., u, v]
        return into

    return record("windows", view, (x, rule))


def conv2d(
    x: Float[Tensor, "B C H W"],
    weight: Float[Tensor, "D c h w"],
    stride: int = 1,
    padding: int = 0,
) -> Float[Tensor, "B D H2 W2"]:
    """Correlation with D kernels, as torch's conv2d without bias: a matrix product of windows."""
    D, C, h, w = weight.shape
    check(x.shape[1] == C, f"images of {x.shape[1]} channels, kernels of {C}")
    patches = windows(pad(x, padding), (h, w), stride)  # (B, C, H2, W2, h, w)
    B, _, H2, W2 = patches.shape[:4]
    rows = patches.transpose(0, 2, 3, 1, 4, 5).reshape(B * H2 * W2, C * h * w)  # copies
    out = rows @ weight.reshape(D, C * h * w).T  # (B * H2 * W2, D)
    return out.reshape(B, H2, W2, D).transpose(0, 3, 1, 2)


def max_pool2d(x: Float[Tensor, "B C H W"], size: int) -> Float[Tensor, "B C H2 W2"]:
    """The greatest of each `size` x `size` tile; a rest at the border is dropped, as in torch.

    Equal ones share the gradient, where torch gives it to the first.
    """
    return windows(x, (size, size), size).amax((4, 5))


def cross_entropy(
    logits: Float[Tensor, "N K"], labels: Int[np.ndarray, "..."]
) -> Float[Tensor, ""]:
    """Mean of −log softmax(logits)[label], in nats.

    Raises:
        LabError: a label outside 0..K − 1, or not one for each row.
    """
    N, K = logits.shape
    check(labels.shape == (N,), f"{N} rows of logits, labels of shape {labels.shape}")
    check(bool(((labels >= 0) & (labels < K)).all()), f"labels must be 0 to {K - 1}")
    return -logits.log_softmax()[np.arange(N), labels].mean()


# --- the lesson ----------------------------------------------------------------------------------

# Of two tensors of shape (4, 5), (4, 1), (1, 5) or (1, 1); torch knows the same words.
OPERATIONS = (
    lambda a, b: a + b,
    lambda a, b: a - 2 * b,
    lambda a, b: a * b.tanh(),
    lambda a, b: a / (1 + b * b),
    lambda a, b: (a * a + 1) ** -0.5,
    lambda a, b: (1 + b**2).log() - a,
    lambda a, b: (-a * a).exp(),
    lambda a, b: a.relu() * b,
    lambda a, b: a.mean(axis=0, keepdims=True) + b,
    lambda a, b: a.sum(axis=1, keepdims=True),
    lambda a, b: a.amax(axis=0, keepdims=True) - b,
    lambda a, b: a.log_softmax(-1),
    lambda a, b: (a @ a.T).tanh() @ b if a.shape[0] == b.shape[0] else a,
    lambda a, b: a[[0, 0, -1, -1]],
    lambda a, b: a.reshape(*a.shape[::-1]).T,
)


def run(config: Config, picture: Callable[[str, Figure], None]) -> dict[str, float]:
    """Compare and draw, in float64. Figures, both relative to the greatest entry where that is > 1:

    max_difference_to_torch: of the leaves' gradients, over all random expressions and a small CNN.
    max_difference_to_central: of the CNN's slope along a random direction d in all leaves at once,
        from (L(x + hd) − L(x − hd)) / 2h with h = 1e-6.
    """
    import torch  # takes seconds
    from torch.nn import functional

    rng = np.random.default_rng(config.seed)
    to_torch = []

    def compare(arrays: list[np.ndarray], ours: Callable, theirs: Callable) -> None:
        leaves = [torch.tensor(array, requires_grad=True) for array in arrays]
        theirs(leaves).backward()
        for found, leaf in zip(gradients(ours, arrays), leaves, strict=True):
            to_torch.append(difference(found, leaf.grad.numpy()))

    for _ in range(config.graphs):
        arrays = [rng.standard_normal(shape) for shape in ((4, 5), (4, 1), (1, 5), (1, 1))]
        build = partial(expression, rng.random((config.operations, 3)))
        compare(arrays, build, build)

    arrays = [rng.standard_normal(s) for s in ((4, 2, 9, 8), (5, 2, 3, 3), (5, 1, 1), (20, 3))]
    labels = rng.integers(0, 3, 4)
    cnn = partial(small_cnn, sys.modules[__name__], labels)
    compare(arrays, cnn, partial(small_cnn, functional, torch.from_numpy(labels)))

    directions = [rng.standard_normal(array.shape) for array in arrays]
    slope = sum((g * d).sum() for g, d in zip(gradients(cnn, arrays), directions, strict=True))
    ahead, behind = (
        cnn([Tensor(x + h * d) for x, d in zip(arrays, directions, strict=True)]).value
        for h in (1e-6, -1e-6)
    )
    from from_scratch.graph import draw_graph

    picture("graph", draw_graph(*neuron()))
    return {
        "max_difference_to_torch": max(to_torch),
        "max_difference_to_central": difference(slope, (ahead - behind) / 2e-6),
    }


def expression(choices: Float[np.ndarray, "n 3"], leaves: list):
    """One number from n random operations on the leaves and on earlier results.

    A row of choices, each in 0..1, picks an operation and its two operands.
    """
    pool = list(leaves)
    for choice in choices:
        operation, a, b = (choice * [len(OPERATIONS), len(pool), len(pool)]).astype(int)
        pool.append(OPERATIONS[operation](pool[a], pool[b]))
    return sum(node.mean() for node in pool)


def small_cnn(library, labels, leaves: list):
    """The loss of convolution, tanh, max-pooling and a linear layer, in this module or in torch."""
    images, kernels, bias, W = leaves
    hidden = (library.conv2d(images, kernels, stride=2, padding=1) + bias).tanh()  # (B, 5, 5, 4)
    pooled = library.max_pool2d(hidden, 2)  # (B, 5, 2, 2)
    return library.cross_entropy(pooled.reshape(len(labels), -1) @ W, labels)


def gradients(build: Callable, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """∂/∂array of the number that `build` makes of these leaves."""
    leaves = [Tensor(array) for array in arrays]
    build(leaves).backward()
    return [leaf.grad for leaf in leaves]


def difference(found, expected) -> float:
    """The largest one, over the largest expected number if that is above 1."""
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))


def neuron() -> tuple[Tensor, dict[Tensor, str], str]:
    """The loss of a neuron on two samples, its leaves' names, and a title. w is used twice."""
    x, w = Tensor([[1.0, 2.0], [-1.0, 0.5]]), Tensor([[0.5], [-0.3]])
    b, y = Tensor([[0.3]]), Tensor([[1.0], [-1.0]])
    loss = (((x @ w + b).tanh() - y) ** 2).mean() + (w**2).mean()
    loss.backward()
    title = "mean((tanh(x @ w + b) - y)²) + mean(w²): values forwards, gradients backwards"
    return loss, {x: "x", w: "w", b: "b", y: "y"}, title


if __name__ == "__main__":
    from from_scratch.lesson import main

    main("autograd")
