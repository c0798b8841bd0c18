"""The commands of this project. Libraries are imported only after the options are read."""

from functools import partial

from from_scratch.config import TrainConfig
from from_scratch.lesson import main
from trainloop import entry_point, parse


@entry_point
def train() -> None:
    """Run all lessons, and print one table of what they measured."""
    config = parse(TrainConfig, train.__doc__)
    from from_scratch.train import train as run

    run(config)


linear_regression = partial(main, "linear_regression")
edge_convolution = partial(main, "edge_convolution")
k_means = partial(main, "k_means")
pca = partial(main, "pca")
k_nearest = partial(main, "k_nearest")
logistic_regression = partial(main, "logistic_regression")
decision_tree = partial(main, "decision_tree")
naive_bayes = partial(main, "naive_bayes")
gaussian_mixture = partial(main, "gaussian_mixture")
autograd = partial(main, "autograd")
mlp = partial(main, "mlp")
conv_net = partial(main, "conv_net")
