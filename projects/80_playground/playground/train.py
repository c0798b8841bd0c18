"""Train without a window: the whole loop, top to bottom. torch keeps the books and nothing else."""

import math

import numpy as np
import torch

from playground.augment import augmented
from playground.config import TrainConfig
from playground.data import Shuffles, splits
from playground.evaluate import answers, draw_confusion, draw_weights, scores
from playground.net import CLASSES, PIXELS, Net, save_net
from playground.optimise import Optimizer
from trainloop import Run


def train(config: TrainConfig) -> dict[str, float | int | None]:
    """Train, look at validation images after each epoch, test once at the end.

    Leaves model.npz (the best on validation images), weights.png and confusion.png in the run.

    Raises:
        LabError: nothing to resume, or the data are not there or too few.
    """
    config = Run.options("playground", config)
    train_set, validation_set, test_set = splits(config.data, config.seed)
    run = Run.open("playground", config)
    count = len(train_set.labels)
    epoch = max(1, -(-count // config.batch_size))  # steps
    run.total = config.steps or -(-config.epochs * count // config.batch_size)

    net = Net((PIXELS, *config.layers, CLASSES), config.seed)
    optimizer = Optimizer(config.optimizer, net.parameters.size, config.clip)
    batches = Shuffles(count, config.batch_size, config.seed)
    books = Books(net, optimizer)
    start = run.resume(net=books)
    for step in run.steps(start):
        lr = config.start_lr * 0.5 * (1 + math.cos(math.pi * (step - 1) / run.total))
        images, labels = train_set.batch(batches.at(step))
        if config.augment:
            images = augmented(images, config.augment, np.random.default_rng((config.seed, step)))
        loss, right = net.loss_and_gradient(images, labels)
        optimizer.step(net.parameters, net.gradient, lr)

        run.log(step, loss=loss, accuracy=right / config.batch_size)
        if run.due(step, epoch):
            found = scores(net, validation_set)
            run.log(step, **{f"val/{name}": value for name, value in found.items()})
            books.keep_best(found["accuracy"])
            run.save(step, metric=found["accuracy"])
            print(
                f"epoch {step / epoch:5.2f}  loss {loss:.4f}  validation: accuracy "
                f"{found['accuracy']:.2%}, loss {found['nll']:.4f}",
                flush=True,
            )

    net.parameters[:] = books.best
    found = scores(net, test_set)
    run.log(run.total, **{f"test/{name}": value for name, value in found.items()})
    save_net(run.folder / "model.npz", net)
    run.picture("weights", draw_weights(net))
    run.picture("confusion", draw_confusion(answers(net, test_set)))
    return run.finish(images=count, images_seen=run.total * config.batch_size)


class Books:
    """What a checkpoint holds of a net in training, as tensors: torch.load refuses NumPy arrays."""

    def __init__(self, net: Net, optimizer: Optimizer) -> None:
        self.net, self.optimizer = net, optimizer
        self.best, self.best_accuracy = net.parameters.copy(), -1.0

    def keep_best(self, accuracy: float) -> None:
        if accuracy > self.best_accuracy:
            self.best, self.best_accuracy = self.net.parameters.copy(), accuracy

    def _arrays(self) -> dict[str, np.ndarray]:
        return {
            "parameters": self.net.parameters,
            "best": self.best,
            "first": self.optimizer.first,
            "second": self.optimizer.second,
        }

    def state_dict(self) -> dict:
        tensors = {name: torch.from_numpy(array.copy()) for name, array in self._arrays().items()}
        return {**tensors, "steps": self.optimizer.steps, "best_accuracy": self.best_accuracy}

    def load_state_dict(self, state: dict) -> None:
        """Raises ValueError where the net has other layers."""
        for name, array in self._arrays().items():
            array[:] = state[name].numpy()
        self.optimizer.steps, self.best_accuracy = state["steps"], state["best_accuracy"]
