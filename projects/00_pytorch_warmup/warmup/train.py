"""Train a classifier: the whole loop, top to bottom."""

import torch
from torch import nn
from torch.nn import functional as F

from trainloop import Batches, Ema, Run, warmup_cosine
from warmup.config import TrainConfig
from warmup.data import CLASSES, MIRRORED, augment, load
from warmup.evaluate import confusion_matrix, draw_confusion, draw_worst, predict, scores
from warmup.model import build


def train(config: TrainConfig) -> dict[str, float | int | None]:
    """Train on 11/12 of the training images, look at the rest on the way, test once at the end."""
    config = Run.options("warmup", config)
    train_set, validation_set, test_set = load(config.data)
    run = Run.open("warmup", config)
    train_set, validation_set = train_set.to(run.device), validation_set.to(run.device)

    model = build(config.model, train_set.images, config.width, config.dropout).to(run.device)
    optimizer = make_optimizer(model, config.lr, config.weight_decay)
    ema = Ema(model, config.ema)
    batches = Batches(len(train_set.images), config.batch_size, config.seed)

    start = run.resume(model=model, optimizer=optimizer, ema=ema)
    net = run.parallel(model)
    for step in run.steps(start):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * warmup_cosine(step, config.steps, warmup=0.2, final=0.0)
        picked = batches.at(step).to(run.device)
        images = augment(train_set.images[picked], config.shift, config.data in MIRRORED)
        images, labels = run.shard(images, train_set.labels[picked])

        with run.autocast():
            loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        run.scaler.scale(loss).backward()
        run.scaler.step(optimizer)
        run.scaler.update()
        ema.update()

        run.log(step, loss=loss)
        if run.due(step, config.eval_every):
            found = scores(predict(ema.model, validation_set), validation_set.labels)
            run.log(step, **{f"val/{name}": value for name, value in found.items()})
            run.save(step, metric=found["accuracy"])

    test_set, names = test_set.to(run.device), CLASSES[config.data]
    log_prob = predict(ema.model, test_set)
    found = scores(log_prob, test_set.labels)
    run.log(config.steps, **{f"test/{name}": value for name, value in found.items()})
    run.picture("confusion", draw_confusion(confusion_matrix(log_prob, test_set.labels), names))
    run.picture("worst", draw_worst(test_set, log_prob, names))
    return run.finish(images_seen=config.steps * config.batch_size)


def make_optimizer(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays matrices and kernels; biases and BatchNorm's scales have no reason to."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors}]
    return torch.optim.AdamW(groups, lr, weight_decay=0.0, fused=True)


if __name__ == "__main__":  # torchrun --nproc-per-node 2 -m warmup.train
    from warmup.cli import train as command

    command()
