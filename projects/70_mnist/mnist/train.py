"""Train the CNN: the whole loop, top to bottom."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from mnist.config import TrainConfig
from mnist.data import load, shifted, training_images
from mnist.evaluate import draw_worst, log_probabilities, scores
from mnist.model import build
from trainloop import Batches, Ema, Run, warmup_cosine


def train(
    config: TrainConfig,
    make_model: Callable[[int, float], nn.Module] = build,
    loss_function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = F.cross_entropy,
) -> dict[str, float | int | None]:
    """Train, look at validation images on the way, test once at the end.

    Args:
        make_model: called with width and dropout; `predict` and `export` know that of `build` only.
        loss_function: of logits (B, 10) and labels (B,), a scalar.

    Raises:
        LabError: nothing to resume, or the images asked for are not there.
    """
    config = Run.options("mnist", config)
    real, validation_set, test_set = load()
    train_set = training_images(real, config)
    run = Run.open("mnist", config)
    run.total = config.steps or -(-config.epochs * len(train_set.images) // config.batch_size)
    train_set, validation_set = train_set.to(run.device), validation_set.to(run.device)

    model = make_model(config.width, config.dropout).to(run.device)
    optimizer = make_optimizer(model, config.lr, config.weight_decay)
    ema = Ema(model, config.ema)
    batches = Batches(len(train_set.images), config.batch_size, config.seed)

    start = run.resume(model=model, optimizer=optimizer, ema=ema)
    net = run.parallel(model)
    for step in run.steps(start):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * warmup_cosine(step, run.total, warmup=0.2, final=0.0)
        batch = train_set.take(batches.at(step).to(run.device))
        images, labels = run.shard(shifted(batch.images, config.shift), batch.labels)

        with run.autocast():
            logits = net(images)  # (B, 10)
            loss = loss_function(logits, labels)
        optimizer.zero_grad()
        run.scaler.scale(loss).backward()
        run.scaler.step(optimizer)
        run.scaler.update()
        ema.update()

        run.log(step, loss=loss, accuracy=(logits.argmax(1) == labels).float().mean())
        if run.due(step, config.eval_every):
            found = scores(
                log_probabilities(ema.model, validation_set.images), validation_set.labels
            )
            run.log(step, **{f"val/{name}": value for name, value in found.items()})
            run.save(step, metric=found["accuracy"])

    test_set = test_set.to(run.device)
    log_prob = log_probabilities(ema.model, test_set.images)
    found = scores(log_prob, test_set.labels)
    run.log(run.total, **{f"test/{name}": value for name, value in found.items()})
    run.picture("worst", draw_worst(test_set, log_prob))
    return run.finish(images=len(train_set.images), images_seen=run.total * config.batch_size)


def make_optimizer(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays matrices and kernels; biases and BatchNorm's scales have no reason to."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors}]
    return torch.optim.AdamW(groups, lr, weight_decay=0.0, fused=True)


if __name__ == "__main__":  # torchrun --nproc-per-node 2 -m mnist.train
    from mnist.cli import train as command

    command()
