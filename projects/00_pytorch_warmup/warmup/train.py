"""Train the CNN: the whole loop, top to bottom."""

import torch
from torch import nn
from torch.nn import functional as F

from trainloop import Batches, Ema, Run, warmup_cosine
from warmup.config import TrainConfig
from warmup.data import load, random_shift
from warmup.evaluate import confusion_matrix, draw_confusion, draw_worst, predict, scores
from warmup.model import SmallCnn


def train(config: TrainConfig) -> dict[str, float | None]:
    """Train on 55,000 images, look at 5,000 validation images on the way, test once at the end."""
    train_set, validation_set, test_set = load()
    run = Run.open("warmup", config)
    config = run.config
    train_set, validation_set = train_set.to(run.device), validation_set.to(run.device)

    model = SmallCnn(config.width, dropout=config.dropout).to(run.device)
    model = model.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, config.weight_decay)
    ema = Ema(model, config.ema)
    batches = Batches(len(train_set.images), config.batch_size, config.seed)

    start = run.resume(model=model, optimizer=optimizer, ema=ema)
    net = run.parallel(model)
    for step in run.steps(start):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * warmup_cosine(step, config.steps, warmup=0.2, final=0.0)
        picked = batches.at(step).to(run.device)
        images = random_shift(train_set.images[picked], config.shift)
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

    test_set = test_set.to(run.device)
    log_prob = predict(ema.model, test_set)
    found = scores(log_prob, test_set.labels)
    run.log(config.steps, **{f"test/{name}": value for name, value in found.items()})
    run.picture("confusion", draw_confusion(confusion_matrix(log_prob, test_set.labels)))
    run.picture("worst", draw_worst(test_set, log_prob))
    return run.finish(images_seen=config.steps * config.batch_size)


def make_optimizer(model: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays matrices and kernels; biases and BatchNorm's scales have no reason to."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors}]
    return torch.optim.AdamW(groups, weight_decay=0.0, fused=True)


if __name__ == "__main__":  # torchrun --nproc-per-node 2 -m warmup.train
    from warmup.cli import train as command

    command()
