"""SPOILERS, like registry.py: what a mended script must do, a check for each.

A check calls the functions of the script on data of its own and looks at gradients, passes and
results, never at the text, so any cure will do. It returns, or it raises Unmended with the
behaviour that is still wrong.
"""

import random
from collections.abc import Callable
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from warmup.gym.spy import demand, follow, follow_gradients, parameters_behind, rows_of


def run_check(number: int, module: ModuleType) -> None:
    """Hold the script of this number against its check; Unmended where it fails."""
    seed_everything(0)
    CHECKS[number - 1](module)


def seed_everything(seed: int) -> None:
    """Every generator that a cure may draw from."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  scikit-learn's split draws from this one
    random.seed(seed)


def clouds(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """`count` points (count, 64) around ten centres, and which centre each belongs to."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(10, 64, generator=torch.Generator().manual_seed(1000))
    labels = torch.arange(count) % 10
    return centres[labels] + 0.3 * torch.randn(count, 64, generator=generator), labels


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return (model(images).argmax(1) == labels).double().mean().item()


def linear_layers(model: nn.Module) -> list[nn.Linear]:
    """At least one, in order."""
    found = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    demand(bool(found), "the model has no linear layer any more")
    return found


def restless_loss(module: ModuleType) -> None:
    follow_gradients(module.train, module.make_model(), *clouds(200), F.cross_entropy)


def never_sure(module: ModuleType) -> None:
    images, labels = clouds(10)
    model = module.make_model()
    scores: list[Tensor] = []
    linear_layers(model)[-1].register_forward_hook(lambda layer, args, out: scores.append(out))
    said = module.loss_of(model, images, labels).item()
    right = F.cross_entropy(scores[-1], labels).item()
    follow(module.train, model, images, labels, epochs=150)
    known = module.loss_of(model, images, labels).item()
    demand(known < 0.2, f"ten examples known by heart cost {known:.2f} nats; it should be near 0")
    demand(abs(said - right) < 1e-3, f"loss_of says {said:.3f} nats where it is {right:.3f}")


def moody_test(module: ModuleType) -> None:
    images, labels = clouds(200)
    test_images, test_labels = clouds(100, seed=1)
    images[:, 0], test_images[:, 0] = 0.0, 9.0  # a mark that tells which pass is which
    test_labels = test_labels.roll(3)  # so that the accuracy is not simply 1
    model = module.make_model()
    record = follow(module.train, model, images, labels, test_images, test_labels, epochs=3)
    tests = [one for one in record.passes if bool((one.inputs[:, 0] == 9.0).all())]
    demand(bool(tests), "train() does not send the test images through the model")
    modes = {mode for one in tests for mode in one.modes}
    demand(modes == {False}, "while it is tested the net behaves as in training")
    modes = {mode for step in record.steps for one in step.passes for mode in one.modes}
    demand(modes == {True}, "the net is trained in the state that is meant for its use")
    dropout = [m for m in model.modules() if isinstance(m, nn.Dropout) and m.p > 0]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d)]
    demand(bool(dropout and norms), "the net lost its dropout or its normalisation")
    right = accuracy(model.eval(), test_images, test_labels)
    said = record.result["test accuracy"][-1]
    demand(abs(said - right) < 1e-6, f"the test accuracy is {right:.3f}, train() says {said:.3f}")


def coin_toss(module: ModuleType) -> None:
    images, labels = clouds(200)
    record = follow_gradients(module.train, module.make_model(), images, labels, F.cross_entropy)
    order = rows_of(torch.cat([step.inputs for step in record.steps]), images)
    first, second = order.tensor_split(2)
    demand(not torch.equal(first, second), "images come in the same order in every epoch now")


def flat_answer(module: ModuleType) -> None:
    shape = module.make_data(seed=0)[1].shape[1:]  # a cure may make the targets a column
    x = torch.linspace(-3, 3, 103)[:, None]
    y = torch.cos(x[:, 0]).reshape(103, *shape)

    def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs.flatten(), targets.flatten())

    follow_gradients(module.train, module.make_model(), x, y, squared_error, batch_size=50)


def bad_company(module: ModuleType) -> None:
    images, labels = clouds(60)
    model = module.make_model()
    with torch.no_grad():
        gap = model(images) - torch.cat([model(image) for image in images.split(1)])
    gap = gap.abs().max().item()
    demand(gap < 1e-4, f"an image's outputs change by up to {gap:.2f} when it comes alone")
    ones = module.pool(torch.ones(3, 5, 4), torch.randn(3, 5))
    value = ones.flatten()[0].item()
    demand(abs(value - 1) < 1e-4, f"five tokens of ones are pooled to {value:.2f}: that is no mean")
    tokens, scores = torch.randn(3, 5, 4), torch.randn(3, 5)
    right = torch.einsum("bt,btc->bc", scores.softmax(dim=1), tokens)
    demand(
        torch.allclose(module.pool(tokens, scores), right, atol=1e-5),
        "the tokens are not weighted by the softmax of their scores",
    )
    follow(module.train, model, images, labels, epochs=1)


def lost_on_disk(module: ModuleType) -> None:
    images, labels = clouds(200)
    model, loaded = module.make_model(), module.make_model()
    used = parameters_behind(model(images))
    demand(len(used) >= 8, "the net is no longer as deep as it was")
    own = {id(parameter) for parameter in model.parameters()}
    strange = sum(id(tensor) not in own for tensor in used)
    demand(strange == 0, f"{strange} tensors that the output depends on are not its parameters")
    follow(module.train, model, images, labels, epochs=1)
    loaded.load_state_dict(model.state_dict())
    gap = (loaded(images) - model(images)).abs().max().item()
    demand(gap < 1e-5, f"the loaded net's outputs differ by up to {gap:.2f} from the saved one's")


def short_memory(module: ModuleType) -> None:
    """Gradients against central differences, along the upper rows and along the weights."""
    images, labels = clouds(20)
    model = module.make_model()
    follow(module.train, model, images, labels, epochs=1)
    model, images = model.double(), images.double().requires_grad_()
    weights = torch.randn(20, 10, dtype=torch.float64)
    upper = torch.randn_like(images)
    upper[:, 32:] = 0.0
    along_weights = [(p, torch.randn_like(p)) for p in model.parameters()]
    for what, pairs in (("the upper rows", [(images, upper)]), ("the weights", along_weights)):
        leaves, directions = zip(*pairs, strict=True)
        grads = torch.autograd.grad((model(images) * weights).sum(), leaves, allow_unused=True)
        pairs = zip(grads, directions, strict=True)
        told = sum((g * d).sum().item() for g, d in pairs if g is not None)
        values = []
        with torch.no_grad():
            for move in (1e-5, -2e-5):  # forward, then from there back to the other side
                for leaf, direction in zip(leaves, directions, strict=True):
                    leaf += move * direction
                values.append((model(images) * weights).sum().item())
        true = (values[0] - values[1]) / 2e-5
        demand(abs(true) > 1e-9, f"the output does not depend on {what} at all")
        demand(
            abs(told - true) < 1e-3 * abs(true),
            f"moved along {what}, the output changes by {true:.3g}; the gradient says {told:.3g}",
        )


def slow_learner(module: ModuleType) -> None:
    images, labels = module.make_data()
    model = module.make_model()
    entering: list[Tensor] = []
    linear_layers(model)[0].register_forward_pre_hook(lambda layer, x: entering.append(x[0]))
    follow(module.train, model, images, labels, epochs=1)
    pixels = torch.cat(entering)
    mean, std = pixels.mean().item(), pixels.std().item()
    demand(
        abs(mean) < 0.1 and abs(std - 1) < 0.1,
        f"what enters the first layer has mean {mean:.2f} and standard deviation {std:.2f}",
    )
    levels = len((1e4 * pixels).round().unique())
    demand(levels <= 17, f"the 17 grey levels became {levels}: pixels are not all scaled alike")


def too_good(module: ModuleType) -> None:
    x, ill = module.make_patients(150, seed=7)

    def prepare(x: Tensor, ill: Tensor) -> tuple[set[int], list[int], list[int]]:
        seed_everything(3)
        columns, rows, test_rows = (part.tolist() for part in module.prepare(x, ill))
        return set(columns), rows, test_rows

    columns, rows, test_rows = prepare(x, ill)
    demand(not set(rows) & set(test_rows), "some patients are both trained on and tested on")
    sizes = (len(set(rows)), len(set(test_rows)), len(columns))
    demand(
        sizes == (105, 45, 40),
        f"{sizes[0]} patients to train on, {sizes[1]} to test on and {sizes[2]} columns to use; "
        "there were 105, 45 and 40",
    )
    other = ill.clone()
    other[test_rows] = torch.randint(0, 2, (45,))
    changed = len(columns - prepare(x, other)[0])
    demand(
        changed == 0,
        f"draw the test patients' diagnoses by a coin, and {changed} of the 40 columns change",
    )
    planted = x.clone()
    planted[rows, 3999] += 5.0 * ill[rows]
    demand(
        3999 in prepare(planted, ill)[0],
        "a column that tells the training patients apart without fail is not chosen",
    )


def wild_start(module: ModuleType) -> None:
    images, labels, _, _ = module.make_data()
    images, labels = images[:640], labels[:640]
    for seed in range(3):
        torch.manual_seed(seed)
        model = module.make_model()
        follow(module.train, model, images, labels)
        loss = F.cross_entropy(model(images), labels).item()
        demand(loss < 0.6, f"half of the images still cost {loss:.2f} nats after the training")


def turning_loss(module: ModuleType) -> None:
    images = 3 * torch.randn(100, 64)  # far apart, so that each is known in its noise
    stored, labels = images.clone(), torch.arange(100) % 10
    record = follow(module.train, module.make_model(), images, labels, *clouds(50), epochs=6)
    demand(torch.equal(images, stored), "the training images are not what they were before")
    seen = torch.cat([step.inputs for step in record.steps])
    rows = rows_of(seen, stored)
    epochs = [(rows[i : i + 100], seen[i : i + 100]) for i in range(0, len(seen), 100)]
    noise = [(x - stored[r])[r.argsort()] for r, x in epochs]
    first, last = noise[0].std().item(), noise[-1].std().item()
    demand(first > 0.05, "the training images come without noise now")
    demand(
        0.8 < last / first < 1.25,
        f"the noise has a deviation of {first:.2f} in the first epoch, {last:.2f} in the sixth",
    )
    demand(not torch.equal(noise[0], noise[1]), "the noise is the same in every epoch")


def small_portions(module: ModuleType) -> None:
    options = {"batch_size": 32, "portion": 8}  # of 75 images: the last batch is of 8 and 3
    model = module.make_model()
    record = follow_gradients(module.train, model, *clouds(75), F.cross_entropy, **options)
    most = max(len(one.inputs) for one in record.passes)
    demand(most <= 8, f"{most} images go through at once; 8 is what the memory can hold")


def early_rest(module: ModuleType) -> None:
    for count in (320, 640):
        record = follow(module.train, module.make_model(), *clouds(count), epochs=6)
        size = len(record.steps) // 6
        demand(size > 1, f"an epoch of {count} images has {size} steps")
        for epoch in range(6):
            share = record.steps[epoch * size].lr / record.steps[0].lr
            demand(
                abs(share / 0.8**epoch - 1) < 0.1,
                f"with {size} batches an epoch, epoch {epoch + 1} starts with {share:.2g} of the "
                f"first learning rate; it should be {0.8**epoch:.2g}",
            )


def lost_best(module: ModuleType) -> None:
    for seed in range(3):
        val_images = clouds(200, seed + 10)[0]
        val_labels = torch.randint(0, 10, (200,))  # nothing to learn: up and down by chance
        model = module.make_model()
        outputs: list[Tensor] = []
        model.register_forward_hook(lambda m, x, out, to=outputs: to.append(out))
        follow(module.train, model, *clouds(40, seed), val_images, val_labels, epochs=8)
        found = [accuracy(nn.Identity(), out, val_labels) for out in outputs if len(out) == 200]
        demand(len(found) >= 8, "train() does not look at all validation images in every epoch")
        final = accuracy(model, val_images, val_labels)
        demand(
            final >= max(found),
            f"the best epoch has a validation accuracy of {max(found):.3f}, and the model that "
            f"train() leaves {final:.3f}",
        )


def missing_digits(module: ModuleType) -> None:
    images, labels = clouds(200)
    model = module.make_model()
    wide = 3 * torch.randn(500, 64)
    scores: list[Tensor] = []
    linear_layers(model)[-1].register_forward_hook(lambda layer, args, out: scores.append(out))
    with torch.no_grad():
        outputs = model(wide)
        bend = model(wide) + model(-wide) - 2 * model(torch.zeros_like(wide))
    least = outputs.min().item()
    demand(least < 0, f"no output is below {least:.1f} for any of 500 random images")
    demand(torch.allclose(outputs, scores[0]), "outputs below 0 are not what they should be")
    demand(bend.abs().max().item() > 1e-3, "the net became a linear one")
    follow(module.train, model, images, labels, images, labels, epochs=30)
    missing = 10 - len(model(images).argmax(1).unique())
    demand(missing == 0, f"after the training {missing} classes are never the answer")


CHECKS: tuple[Callable[[ModuleType], None], ...] = (
    restless_loss,
    never_sure,
    moody_test,
    coin_toss,
    flat_answer,
    bad_company,
    lost_on_disk,
    short_memory,
    slow_learner,
    too_good,
    wild_start,
    turning_loss,
    small_portions,
    early_rest,
    lost_best,
    missing_digits,
)
