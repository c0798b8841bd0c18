# /// script
# requires-python = "==3.12.*"
# dependencies = [
#     "playground",
#     "scikit-learn>=1.7",
#     "torch<2.8",
#     "trainloop",
# ]
# [tool.uv.sources]
# playground = { path = "..", editable = true }
# trainloop = { path = "../../../shared", editable = true }
# ///
"""What an epoch costs: our NumPy net against scikit-learn's MLPClassifier.

    uv run --script projects/80_playground/benchmarks/epochs.py

Both train 784-16-16-10 with ReLU on the same 55,000 MNIST images, batches of 64, momentum 0.9 at
the same constant rate, shuffled each epoch, in float32, on one thread. They take turns, epoch by
epoch; what counts is the CPU time of the process, since a neighbour takes wall time and not that.
scikit-learn gets its floats ready made; we take bytes, as they lie on the disk, and that counts.
"""

# ruff: noqa: E402 (the number of threads must be set before NumPy is loaded)
import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import statistics
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from playground.data import Shuffles, mnist, unit
from playground.net import Net
from playground.optimise import Optimizer
from trainloop import entry_point, parse
from trainloop.paths import workspace_root

LR, BATCH = 0.05, 64


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    rounds: int = 7
    """Epochs of each; the first one warms up and does not count."""
    images: int = 55_000
    """Training images."""
    out: Path = workspace_root() / "runs/benchmarks/epochs.md"
    """Where the table goes."""


@entry_point
def main() -> None:
    """Milliseconds an epoch, ours against scikit-learn's."""
    options = parse(Options, main.__doc__)
    import sklearn
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    warnings.simplefilter("ignore", ConvergenceWarning)  # one epoch at a time never converges
    samples = mnist("train").take(slice(options.images))
    images, labels = unit(samples.images), samples.labels
    test = mnist("test")
    test_floats = unit(test.images)

    net = Net(seed=0)
    optimizer = Optimizer("momentum", net.parameters.size, clip=5.0)
    shuffles = Shuffles(len(labels), BATCH, 0)
    steps = len(labels) // BATCH

    def ours(epoch: int) -> None:
        for step in range(epoch * steps + 1, (epoch + 1) * steps + 1):
            net.loss_and_gradient(*samples.batch(shuffles.at(step)))
            optimizer.step(net.parameters, net.gradient, LR)

    peer = MLPClassifier(
        (16, 16), solver="sgd", alpha=0.0, batch_size=BATCH, learning_rate_init=LR, momentum=0.9,
        nesterovs_momentum=False, max_iter=1, warm_start=True, shuffle=True, random_state=0,
    )  # fmt: skip

    def theirs(epoch: int) -> None:
        peer.fit(images, labels)

    seconds: dict[str, list[float]] = {"ours": [], "scikit-learn": []}
    for epoch in range(options.rounds):
        for name, train in (("ours", ours), ("scikit-learn", theirs)):
            begin = time.process_time()
            train(epoch)
            seconds[name].append(time.process_time() - begin)
        print(f"round {epoch + 1}: {[round(s[-1], 3) for s in seconds.values()]}", file=sys.stderr)

    right = {
        "ours": (net.probabilities(test_floats).argmax(1) == test.labels).mean(),
        "scikit-learn": (peer.predict(test_floats) == test.labels).mean(),
    }
    ratios = [b / a for a, b in list(zip(*seconds.values(), strict=True))[1:]]
    lines = [
        "| | ms an epoch (median) | test accuracy after them |",
        "|---|---|---|",
        *(
            f"| {name} | {1000 * statistics.median(values[1:]):.0f} | {right[name]:.2%} |"
            for name, values in seconds.items()
        ),
        "",
        f"scikit-learn {sklearn.__version__} takes {statistics.median(ratios):.2f} times as long "
        f"(per round: {min(ratios):.2f} to {max(ratios):.2f}; {len(ratios)} rounds)",
    ]
    print("\n".join(lines))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
