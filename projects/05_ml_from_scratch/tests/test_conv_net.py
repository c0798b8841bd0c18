"""Shifts against a slow one, equal sizes, equivariance, the choice of data, and learning."""

import numpy as np
import pytest
import torch
from torch import nn

from from_scratch import conv_net
from from_scratch.conv_net import (
    CLASSES,
    MOVES,
    Config,
    Labelled,
    accuracy,
    choose_data,
    count_parameters,
    equivariance_error,
    fit,
    load,
    make_cnn,
    make_fully_connected,
    move,
    run,
    shift,
)
from trainloop import LabError, NonFiniteError


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def made_problem(count: int, size: int = 14, channels: int = 1) -> Labelled:
    """Bars across, down and along a diagonal, each anywhere in the dark, with noise."""
    rng = np.random.default_rng(count)
    labels = rng.integers(0, 3, count)
    images = rng.integers(0, 60, (count, channels, size, size + 1))
    steps = np.arange(5)
    for image, label in zip(images, labels, strict=True):
        row, column = rng.integers(0, size - 5, 2)
        image[:, row + steps * (label != 0), column + steps * (label != 1)] = 255
    return Labelled(torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(labels))


# --- shifts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 1, 5, 7), (1, 3, 6, 4), (1, 1)])
def test_shift_against_a_slow_one(shape):
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    height, width = shape[-2:]
    for dx, dy in [*MOVES, (0, 0), (3, -2), (-9, 9)]:
        expected = torch.empty_like(images)
        for i in range(height):
            for j in range(width):
                row = min(max(i - dy, 0), height - 1)
                expected[..., i, j] = images[..., row, min(max(j - dx, 0), width - 1)]
        assert torch.equal(shift(images, dx, dy), expected)


def test_shift_goes_right_and_down():
    image = torch.zeros(5, 5)
    image[1, 2] = 1
    assert shift(image, 2, 0)[1, 4] == 1
    assert shift(image, 0, 3)[4, 2] == 1


@pytest.mark.parametrize("count", [3, 8, 21])
def test_each_eighth_of_the_images_moves_in_a_direction_of_its_own(count):
    images = torch.randint(0, 256, (count, 2, 9, 8), dtype=torch.uint8)
    moved = move(images, 2)
    for i in range(count):
        dx, dy = MOVES[i % 8]
        assert max(abs(dx), abs(dy)) == 1
        assert torch.equal(moved[i], shift(images[i], 2 * dx, 2 * dy))
    assert len(set(MOVES)) == 8
    assert torch.equal(move(images, 0), images)


# --- nets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32)])
def test_as_many_parameters(channels, size):
    cnn = count_parameters(make_cnn(channels))
    full = make_fully_connected(channels * size**2, cnn)
    assert abs(count_parameters(full) / cnn - 1) < 0.02
    unit = channels * size**2 + 1 + CLASSES  # one hidden unit more would not come nearer
    assert abs(count_parameters(full) - cnn) <= unit / 2


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (1, 3, 13, 17), (3, 1, 29, 9)])
def test_odd_image_sizes(shape):
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    for net in (make_cnn(shape[1]), make_fully_connected(images[0].numel(), 5000)):
        logits = net(images)
        assert logits.shape == (shape[0], CLASSES)
        torch.testing.assert_close(net(images[:1]), logits[:1], msg="images do not mix")


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(("dx", "dy"), [(2, 0), (-1, 3), (0, -2)])
def test_convolution_commutes_with_shifts_away_from_borders(kernel, dx, dy):
    layer = nn.Sequential(nn.Conv2d(2, 4, kernel, padding=kernel // 2), nn.ReLU())
    x = torch.randn(3, 2, 15, 16)
    margin = max(abs(dx), abs(dy)) + kernel // 2
    assert equivariance_error(layer, x, dx, dy, margin) < 1e-5
    assert equivariance_error(layer, x, dx, dy, margin - 1) > 0.01, "the margin is needed"
    pointwise = nn.Conv2d(2, 4, 1)
    assert equivariance_error(pointwise, x, dx, dy, 0) < 1e-5, "a pixel alone knows no border"


def test_a_weight_of_its_own_for_each_place_does_not_commute():
    class Unshared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = nn.Parameter(torch.randn(1, 1, 12, 12))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.weights

    assert equivariance_error(Unshared(), torch.randn(2, 1, 12, 12), 1, 0, 4) > 0.1


def test_the_greatest_value_wherever_it_stands():
    x = torch.randn(3, 4, 5, 6)
    np.testing.assert_array_equal(conv_net.GlobalMax()(x), x.numpy().max((2, 3)))


def test_pooling_halves_even_shifts_and_the_end_forgets_them():
    x = torch.randn(2, 3, 16, 16)
    pool = nn.MaxPool2d(2)
    inside = (..., slice(2, 6), slice(2, 6))
    assert torch.equal(pool(shift(x, 2, -2))[inside], shift(pool(x), 1, -1)[inside])
    assert not torch.equal(pool(shift(x, 1, 0))[inside], shift(pool(x), 1, 0)[inside])

    cnn = make_cnn(1)  # 3 poolings: 8 pixels are one place on the last map
    image = torch.zeros(1, 1, 128, 128, dtype=torch.uint8)
    image[..., 60:65, 61:63] = 255  # far from where the zeros around reach
    torch.testing.assert_close(cnn(shift(image, 8, -8)), cnn(image))
    assert not torch.allclose(cnn(shift(image, 3, 0)), cnn(image)), "but not for 3 pixels"


# --- data ----------------------------------------------------------------------------------------


def no_source(name: str, *_, **__) -> None:
    raise LabError(f"no source gave {name}")


def test_auto_takes_cifar10_where_it_can_be_had(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(conv_net, "fetch", lambda name, timeout: asked.append((name, timeout)))
    assert choose_data("auto") == "cifar10"
    assert asked == [("cifar10", 5.0)]
    assert capsys.readouterr().err == ""


def test_auto_falls_back_and_says_so_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(conv_net, "fetch", no_source)
    assert choose_data("auto") == "fashion-mnist"
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "CIFAR-10 could not be fetched, Fashion-MNIST is used instead" in said


@pytest.mark.parametrize("name", ["cifar10", "fashion-mnist"])
def test_data_asked_for_by_name_is_not_replaced(monkeypatch, capsys, name):
    monkeypatch.setattr(conv_net, "fetch", no_source)
    monkeypatch.setattr(conv_net, "load_images", no_source)
    with pytest.raises(LabError, match=f"no source gave {name}"):
        run(Config(data=name), lambda *_: None)
    assert capsys.readouterr().err == ""


def test_validation_is_the_last_tenth_of_the_training_images(monkeypatch):
    published = {"train": made_problem(105), "test": made_problem(9)}
    monkeypatch.setattr(conv_net, "load_images", lambda name, split: published[split])
    train, validation, test = load("cifar10")
    assert (len(train.images), len(validation.labels)) == (94, 11)
    assert torch.equal(torch.cat([train.labels, validation.labels]), published["train"].labels)
    assert torch.equal(torch.cat([train.images, validation.images]), published["train"].images)
    assert torch.equal(test.images, published["test"].images)


# --- training ------------------------------------------------------------------------------------


def test_accuracy_counts_right_answers_over_batches():
    images = torch.arange(1200, dtype=torch.uint8)[:, None, None, None] % CLASSES

    def ask(some: torch.Tensor) -> torch.Tensor:
        return torch.eye(CLASSES)[some.flatten().long()]

    class Reader(nn.Module):
        forward = staticmethod(ask)

    labels = images.flatten().long()
    labels[::4] = (labels[::4] + 1) % CLASSES
    assert accuracy(Reader(), images, labels) == 0.75


def test_learns_where_things_may_be_anywhere():
    train, validation = made_problem(2000), made_problem(500)
    config = Config(steps=100, batch_size=32)
    cnn = make_cnn(1)
    full = make_fully_connected(14 * 15, count_parameters(cnn))
    histories = [fit(net, train, validation, config) for net in (cnn, full)]
    for history in histories:
        assert len(history.losses) == 100
        assert history.steps == [*range(12, 100, 12), 100]
    assert accuracy(cnn, *validation) == histories[0].accuracies[-1] > 0.97
    assert histories[1].accuracies[-1] < histories[0].accuracies[-1] - 0.2


def test_nets_see_the_same_batches(monkeypatch):
    """A net that only remembers the images it is given."""
    seen = {}

    class Remember(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.bias, self.name = nn.Parameter(torch.zeros(CLASSES)), name

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if torch.is_grad_enabled():
                seen.setdefault(self.name, []).append(images)
            return self.bias.expand(len(images), -1)

    data = made_problem(50)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(len(seen))
        fit(Remember(name), data, data, Config(steps=6, batch_size=20, seed=seed))
    a, b, c = (torch.cat(seen[name]) for name in "abc")
    assert len(a) == 120
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_a_loss_that_explodes_is_one_line():
    data = made_problem(50)
    with pytest.raises(NonFiniteError, match=r"at step \d+: lower --lr"):
        fit(make_fully_connected(14 * 15, 5000), data, data, Config(steps=20, lr=1e30))


@pytest.mark.parametrize(
    "options", [{"seed": -1}, {"steps": 0}, {"batch_size": 0}, {"lr": 0.0}, {"lr": float("nan")}]
)
def test_wrong_options_are_one_line(options):
    with pytest.raises(LabError, match="--"):
        Config(**options)


@pytest.mark.parametrize(("name", "channels"), [("fashion-mnist", 1), ("cifar10", 3)])
def test_the_lesson(monkeypatch, capsys, name, channels):
    """On made images: both data shapes, all figures and pictures, and the same again."""
    data = {"train": made_problem(300, 15, channels), "test": made_problem(60, 15, channels)}
    monkeypatch.setattr(conv_net, "load_images", lambda name, split: data[split])
    pictures = {}
    config = Config(data=name, steps=30, batch_size=32)
    figures = run(config, pictures.__setitem__)
    title = conv_net.TITLES[name]
    said = capsys.readouterr().out
    assert said == f"data: {title}; 270, 30, 60 images to train, validate and test\n"
    assert set(pictures) == {"training", "shift", "filters"}
    assert all(title in figure.get_suptitle() for figure in pictures.values())
    for figure in pictures.values():
        figure.canvas.draw()
    assert figures["cifar10"] == (channels == 3)
    assert figures["equivariance_error"] < 1e-5
    curves = {line.get_label(): line.get_ydata() for line in pictures["shift"].axes[-1].lines}
    for net, title in (("fully_connected", "fully connected"), ("cnn", "CNN")):
        in_place, moved = figures[f"{net}_test_accuracy"], figures[f"{net}_shifted_accuracy"]
        assert (curves[title][0], curves[title][2]) == (in_place, moved), "2 pixels"
        assert curves[title][2] not in (curves[title][1], curves[title][3]), "so it can tell"
        assert figures[f"{net}_drop"] == in_place - moved
        assert 0 < figures[f"{net}_validation_accuracy"] <= 1
    again = run(config, pictures.__setitem__)
    assert {k: v for k, v in again.items() if "seconds" not in k} == {
        k: v for k, v in figures.items() if "seconds" not in k
    }
