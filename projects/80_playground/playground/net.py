"""The net by hand: layers, softmax, backpropagation, and its file. NumPy only."""

import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from trainloop import LabError, atomic_write, check

PIXELS, CLASSES = 784, 10
DEFAULT_SIZES = (PIXELS, 16, 16, CLASSES)
WIDEST, DEEPEST = 512, 4  # of hidden layers, in the window and in files
FILE_LIMIT = 16 << 20  # bytes of a model file once unpacked: the widest net has half of that


class Net:
    """A multilayer perceptron: x -> ReLU(x W + b) -> ... -> softmax.

    All parameters lie in one vector, of which `weights` and `biases` are views: an optimiser's step
    is then a handful of NumPy calls, whatever the number of layers. The same holds of `gradient`.

    Args:
        sizes: units of each layer, input and output included.
        seed: of the initial weights, normal with variance 2 / fan-in (He 2015, eq. 10).
        dtype: float32 to train, float64 to check gradients.
    """

    def __init__(
        self, sizes: tuple[int, ...] = DEFAULT_SIZES, seed: int = 0, dtype: type = np.float32
    ) -> None:
        self.sizes, self.dtype = tuple(sizes), dtype
        count = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(self.sizes))
        self.parameters = np.zeros(count, dtype)
        self.gradient = np.zeros(count, dtype)
        self.weights, self.biases = self._views(self.parameters)
        self._d_weights, self._d_biases = self._views(self.gradient)
        self._rooms: dict[int, _Room] = {}
        rng = np.random.default_rng(seed)
        for weight in self.weights:
            weight[:] = rng.normal(0.0, np.sqrt(2 / len(weight)), weight.shape)

    def _views(self, flat: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The parts of a vector as matrices (fan_in, fan_out) and as biases (fan_out,)."""
        weights, biases, start = [], [], 0
        for fan_in, fan_out in pairwise(self.sizes):
            middle, end = start + fan_in * fan_out, start + (fan_in + 1) * fan_out
            weights.append(flat[start:middle].reshape(fan_in, fan_out))
            biases.append(flat[middle:end])
            start = end
        return weights, biases

    def activations(self, x: Float[np.ndarray, "B I"]) -> list[np.ndarray]:
        """What each layer says: after ReLU for the hidden ones, probabilities for the last."""
        found, last = [], len(self.weights) - 1
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ weight + bias  # (B, fan_out)
            x = softmax(x) if index == last else np.maximum(x, 0)
            found.append(x)
        return found

    def probabilities(self, x: Float[np.ndarray, "B I"]) -> Float[np.ndarray, "B C"]:
        """p(class | x) of each row; pixels are 0 (paper) to 1 (ink)."""
        return self.activations(x)[-1]

    def loss_and_gradient(
        self, x: Float[np.ndarray, "B I"] | UInt8[np.ndarray, "B I"], labels: Int[np.ndarray, " B"]
    ) -> tuple[float, int]:
        """The mean cross-entropy in nats and how many are right; fills `gradient`.

        What takes its time here is not arithmetic but the number of NumPy calls, 1 to 4 us each, so
        every result goes into an array that is kept (`_Room`), and there are as few as can be.

        Args:
            x: floats of the net's dtype, or bytes 0..255, which count as 0..1.
            labels: 0 .. C-1.
        """
        room = self._room(len(x))
        scale = 1.0
        if x.dtype == np.uint8:  # (x / 255) W = (x W) / 255, and there are fewer sums than pixels
            np.copyto(room.x, x)
            x, scale = room.x, 1 / 255
        inputs = [x, *room.hidden]  # of each layer
        for layer, out in enumerate(room.hidden):
            np.dot(inputs[layer], self.weights[layer], out=out)  # (B, fan_out)
            if layer == 0:
                out *= scale
            out += self.biases[layer]
            np.maximum(out, room.zero, out=out)

        # Here a column is a sample: what runs over the classes then adds whole rows of B numbers,
        # and not B times ten.
        logits = np.dot(self.weights[-1].T, inputs[-1].T, out=room.logits)  # (C, B)
        if not room.hidden:
            logits *= scale
        logits += self.biases[-1][:, None]
        right = int(np.count_nonzero(logits.argmax(0) == labels))
        logits -= logits.max(0)  # exp must not overflow
        target = room.eye.take(labels, axis=1, out=room.target, mode="clip")  # onehot / B
        of_labels = float(np.vdot(target, logits))
        powers = np.exp(logits, out=logits)
        total = np.dot(room.ones_c, powers)  # (B,)
        loss = float(np.dot(room.ones_b, np.log(total))) / len(x) - of_labels

        # dL/dz of the last layer is (p - onehot) / B; of the others it comes back through W.
        total *= len(x)
        delta = np.divide(powers, total, out=room.top)
        delta -= target
        delta = delta.T  # (B, C)
        for layer in reversed(range(len(inputs))):
            np.dot(room.ones_b, delta, out=self._d_biases[layer])
            if layer == 0:
                delta *= scale
            np.dot(inputs[layer].T, delta, out=self._d_weights[layer])
            if layer > 0:
                below = np.dot(delta, self.weights[layer].T, out=room.deltas[layer - 1])
                # ReLU lets through what was above 0; the sign of what is never below is 1 or 0.
                below *= np.sign(inputs[layer], out=room.passed[layer - 1])
                delta = below
        return loss, right

    def input_gradient(
        self, x: Float[np.ndarray, " I"], towards: int, away: int
    ) -> Float[np.ndarray, " I"]:
        """d (logit of `towards` - logit of `away`) / d x: which pixels would change the answer.

        The difference of two logits is the log of the ratio of their probabilities, so a pixel with
        gradient g that gets darker by dx multiplies p(towards) / p(away) by exp(g dx).
        """
        hidden = self.activations(x[None])[:-1]
        delta = self.weights[-1][:, towards] - self.weights[-1][:, away]
        for weight, active in zip(reversed(self.weights[:-1]), reversed(hidden), strict=True):
            delta = weight @ (delta * (active[0] > 0))
        return delta

    def _room(self, rows: int) -> "_Room":
        if rows not in self._rooms:
            if len(self._rooms) > 3:  # batch sizes that were tried out in the window
                self._rooms.clear()
            self._rooms[rows] = _Room(self.sizes, rows, self.dtype)
        return self._rooms[rows]


class _Room:
    """Where a batch of so many rows is worked out; kept, so that no step allocates it again.

    Attributes:
        x: bytes as floats, (B, I).
        hidden, passed, deltas: of each hidden layer its outputs, 1 where these are above 0, and
            the loss's derivatives by them, (B, units).
        logits, top, target: of the last layer its outputs, its derivatives, and onehot / B, (C, B).
        eye: the possible columns of `target`, (C, C).
        ones_b, ones_c: (B,) and (C,); a product with them adds up, and is quicker than `sum`.
        zero: an array, as NumPy would make one of a plain 0 in each call.
    """

    def __init__(self, sizes: tuple[int, ...], rows: int, dtype: type) -> None:
        classes = sizes[-1]
        self.x = np.empty((rows, sizes[0]), dtype)
        self.hidden = [np.empty((rows, units), dtype) for units in sizes[1:-1]]
        self.passed = [np.empty_like(one) for one in self.hidden]
        self.deltas = [np.empty_like(one) for one in self.hidden]
        self.logits, self.top, self.target = np.empty((3, classes, rows), dtype)
        self.eye = np.eye(classes, dtype=dtype) / rows
        self.ones_b, self.ones_c = np.ones(rows, dtype), np.ones(classes, dtype)
        self.zero = np.zeros((), dtype)


def softmax(logits: Float[np.ndarray, "B C"]) -> Float[np.ndarray, "B C"]:
    """Rows that sum to 1."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def save_net(path: Path, net: Net) -> None:
    """Write `weight0`, `bias0`, ... as float32 to an .npz, whole or not at all."""
    arrays = {f"weight{i}": w.astype(np.float32) for i, w in enumerate(net.weights)}
    arrays |= {f"bias{i}": b.astype(np.float32) for i, b in enumerate(net.biases)}
    atomic_write(path, lambda file: np.savez(file, **arrays))


def load_net(path: Path) -> Net:
    """Read a net that `save_net` wrote. Nothing in the file can run (`allow_pickle=False`).

    Raises:
        LabError: the file is missing, damaged, no model, or not 784 in and 10 out.
    """
    arrays = read_npz(path, FILE_LIMIT)
    layers = len(arrays) // 2
    names = {f"{kind}{i}" for kind in ("weight", "bias") for i in range(layers)}
    fits = layers >= 1 and set(arrays) == names
    fits = fits and all(arrays[f"weight{i}"].ndim == 2 for i in range(layers))
    check(fits, f"{path} is not a model of this project: it holds {', '.join(arrays) or 'nothing'}")
    sizes = (len(arrays["weight0"]), *(arrays[f"weight{i}"].shape[1] for i in range(layers)))
    for i, shape in enumerate(pairwise(sizes)):
        weight, bias = arrays[f"weight{i}"], arrays[f"bias{i}"]
        check(
            weight.shape == shape and bias.shape == shape[1:] and weight.dtype == np.float32,
            f"{path}: layers {i} and {i + 1} do not fit together",
        )
        check(
            bool(np.isfinite(weight).all() and np.isfinite(bias).all()),
            f"{path}: layer {i} holds weights that are not finite",
        )
    check(
        (sizes[0], sizes[-1]) == (PIXELS, CLASSES),
        f"{path} is a net of {sizes[0]} inputs and {sizes[-1]} classes, not of 784 and 10",
    )
    net = Net(sizes)
    for i in range(layers):
        net.weights[i][:], net.biases[i][:] = arrays[f"weight{i}"], arrays[f"bias{i}"]
    return net


def read_npz(path: Path, limit: int) -> dict[str, np.ndarray]:
    """The arrays of an .npz; LabError where it is missing, damaged, or over `limit` bytes."""
    check(path.is_file(), f"no file at {path}")
    try:
        with zipfile.ZipFile(path) as archive:  # sizes first: a small zip may unpack to a lot
            size = sum(member.file_size for member in archive.infolist())
        check(size <= limit, f"{path} would unpack to {size:,} bytes: refused")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, KeyError, NotImplementedError):
        raise LabError(f"{path} is damaged, or no .npz of plain arrays") from None
