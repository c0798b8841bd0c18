"""Train a classifier: the whole loop, top to bottom."""

import torch
from torch import nn

from fashion_mnist import pictures, schedule
from fashion_mnist.calibration import fit_temperature, reliability, scores
from fashion_mnist.config import TrainConfig
from fashion_mnist.data import augmented, load
from fashion_mnist.loss import cross_entropy, mixed, smoothed
from fashion_mnist.model import build
from fashion_mnist.predict import logits_of
from trainloop import Batches, Ema, Run


def train(config: TrainConfig) -> dict[str, float | int | None]:
    """Train, look at validation images on the way, fit the temperature on them, test once.

    Raises:
        LabError: nothing to resume, or no source gave the data set.
    """
    config = Run.options("fashion-mnist", config)
    recipe = config.recipe
    train_set, validation_set, test_set = load()
    run = Run.open("fashion-mnist", config)
    run.total = config.steps or -(-recipe.epochs * len(train_set.images) // recipe.batch_size)
    train_set, validation_set = train_set.to(run.device), validation_set.to(run.device)

    model = build(recipe).to(run.device)
    optimizer = make_optimizer(model, recipe.lr, recipe.weight_decay)
    ema = Ema(model, recipe.ema)
    batches = Batches(len(train_set.images), recipe.batch_size, config.seed)

    start = run.resume(model=model, optimizer=optimizer, ema=ema)
    net = run.parallel(model)
    for step in run.steps(start):
        rate, momentum = schedule.at(recipe.schedule, step, run.total)
        for group in optimizer.param_groups:
            group["lr"], group["betas"] = recipe.lr * rate, (momentum, 0.999)
        batch = train_set.take(batches.at(step).to(run.device))
        images = augmented(batch.images, recipe)
        targets = smoothed(batch.labels, recipe.smoothing)
        if recipe.mixup:
            images, targets = mixed(images, targets, recipe.mixup)
        images, targets = run.shard(images, targets)

        with run.autocast():
            logits = net(images)  # (B, 10)
            loss = cross_entropy(logits.float(), targets)
        optimizer.zero_grad()
        run.scaler.scale(loss).backward()
        run.scaler.step(optimizer)
        run.scaler.update()
        ema.update()

        right = logits.argmax(1) == targets.argmax(1)
        run.log(step, loss=loss, accuracy=right.float().mean(), lr=recipe.lr * rate)
        if run.due(step, config.eval_every):
            logits = logits_of(ema.model, validation_set.images, recipe.flip_test)
            found = scores(logits.cpu(), validation_set.labels.cpu())
            run.log(step, **{f"val/{name}": value for name, value in found.items()})
            run.save(step, metric=found["accuracy"])

    # The weights are the last ones, so validation images have chosen nothing but the temperature.
    logits = logits_of(ema.model, validation_set.images, recipe.flip_test).cpu()
    temperature = fit_temperature(logits, validation_set.labels.cpu())
    run.notes["temperature"] = temperature
    run.save(run.total)

    images = test_set.images.to(run.device)
    logits = logits_of(ema.model, images, recipe.flip_test).cpu()
    before = scores(logits, test_set.labels)
    after = scores(logits, test_set.labels, temperature)
    run.log(
        run.total,
        temperature=temperature,
        **{"test/ece_unscaled": before["ece"], "test/nll_unscaled": before["nll"]},
        **{f"test/{name}": value for name, value in after.items()},
    )
    if recipe.flip_test:  # what the mirror image added
        alone = scores(logits_of(ema.model, images).cpu(), test_set.labels)
        run.log(run.total, **{"test/accuracy_one_way": alone["accuracy"]})
    probabilities = (logits / temperature).softmax(1)
    run.picture("confusion", pictures.confusion(test_set.labels, logits.argmax(1)))
    run.picture(
        "reliability",
        pictures.reliability_diagrams(
            {
                "as trained": reliability(logits.softmax(1), test_set.labels),
                f"temperature {temperature:.2f}": reliability(probabilities, test_set.labels),
            }
        ),
    )
    run.picture("mistakes", pictures.mistakes(test_set, probabilities))
    parameters = sum(p.numel() for p in model.parameters())
    return run.finish(parameters=parameters, images_seen=run.total * recipe.batch_size)


def make_optimizer(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays matrices and kernels; biases and BatchNorm's scales have no reason to."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors}]
    return torch.optim.AdamW(groups, lr, weight_decay=0.0, fused=True)


if __name__ == "__main__":  # torchrun --nproc-per-node 2 -m fashion_mnist.train
    from fashion_mnist.cli import train as command

    command()
