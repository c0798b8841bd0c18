"""Train the detector: the whole loop, top to bottom."""

from dataclasses import replace

import torch
from torch import nn

from detection.assignment import assign, hard
from detection.augment import augment
from detection.backbone import load_backbone_weights, make_backbone
from detection.config import PretrainConfig, TrainConfig
from detection.data import Split, load
from detection.evaluate import average_precision, detect_all, draw_predictions, largest_difference
from detection.loss import detection_loss
from detection.model import Detector
from trainloop import (
    Batches,
    Ema,
    Run,
    latest_checkpoint,
    mean_over_processes,
    warmup_cosine,
)


def train(config: TrainConfig) -> dict[str, float | None]:
    """Train, look at the validation images on the way, test once at the end."""
    config = Run.options("detection", config)
    train_set, validation_set, test_set = load_splits(config)
    make_detector(config, len(train_set.classes))  # what cannot be had should leave no run folder

    run = Run.open("detection", config)
    run.notes["classes"] = list(train_set.classes)
    model = make_detector(config, len(train_set.classes))
    model = model.to(run.device, memory_format=torch.channels_last)
    optimizer = make_optimizer(model, config)
    ema = Ema(model, config.ema)
    batches = Batches(len(train_set.images), config.batch_size, config.seed)

    start = run.resume(model=model, optimizer=optimizer, ema=ema)
    net = run.parallel(model)
    for step in run.steps(start):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * warmup_cosine(step, config.steps)
        batch = train_set.batch(batches.at(step), run.device)
        if not config.overfit:
            batch = augment(config.augment, *batch)
        batch = run.shard(*batch)

        # Every loss is a sum over points; what to divide it by is known after the last part of the
        # batch has been assigned. Dividing the gradient is the same, and exact for any number of
        # parts and processes.
        optimizer.zero_grad()
        sums = torch.zeros(5, device=run.device)
        for images, boxes, labels, ignore in zip(
            *(tensor.chunk(config.accumulate) for tensor in batch), strict=True
        ):
            with run.autocast():
                predictions = net(images)
            assignment = assign(config.assignment, predictions, boxes, labels, ignore, config.top)
            if config.class_loss == "focal":
                assignment = hard(assignment)
            if config.ignored == "background":
                assignment = assignment._replace(ignored=torch.zeros_like(assignment.ignored))
            losses = detection_loss(
                predictions,
                assignment,
                boxes,
                labels,
                class_loss=config.class_loss,
                box_loss=config.box_loss,
                box_weight=config.box_weight,
            )
            run.scaler.scale(sum(losses)).backward()
            positives = (assignment.target >= 0).sum()
            sums += torch.stack([*losses, assignment.quality.sum(), positives]).detach()

        normaliser = torch.full_like(sums[3], len(batch[0]))
        if config.normalise == "targets":
            normaliser = mean_over_processes(sums[3]).clamp(min=1.0)
        run.scaler.unscale_(optimizer)
        torch._foreach_div_([p.grad for p in model.parameters() if p.grad is not None], normaliser)
        norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        run.scaler.step(optimizer)
        run.scaler.update()
        ema.update()

        classification, box, centerness = sums[:3] / normaliser
        parts = {"loss_class": classification, "loss_box": box}
        if predictions.centerness is not None:
            parts["loss_centerness"] = centerness
        positives = sums[4] / len(batch[0])
        run.log(step, loss=sum(parts.values()), **parts, positives=positives, grad_norm=norm)
        if run.due(step, config.eval_every):
            scores, _ = evaluate(run, ema.model, validation_set, "val")
            run.log(step, **scores)
            run.save(step, metric=scores["val/ap"])

    scores, found = evaluate(run, ema.model, test_set, "test")
    run.log(config.steps, **scores, **{"test/ap_difference": largest_difference(found, test_set)})
    return run.finish(images_seen=config.steps * config.batch_size)


def load_splits(config: TrainConfig) -> tuple[Split, Split, Split]:
    """Training, validation and test images."""
    train_set = load(config.data, "train", config.image_size)
    if config.per_class:
        train_set = train_set.per_class(config.per_class)
    if config.images:
        train_set = train_set.first(config.images)
    if config.unlabelled:
        train_set = unlabel(train_set, config.unlabelled)
    if config.overfit:
        return (train_set.first(config.overfit),) * 3
    return (
        train_set,
        load(config.data, "val", config.image_size),
        load(config.data, "test", config.image_size),
    )


def unlabel(data: Split, share: float) -> Split:
    """Mark a share of the objects as ignored, the same ones each time."""
    chance = torch.rand(data.labels.shape, generator=torch.Generator().manual_seed(0))
    return replace(data, ignore=data.ignore | ((chance < share) & (data.labels >= 0)))


def make_detector(config: TrainConfig, classes: int) -> Detector:
    """The model of a configuration, with fresh or given weights.

    Raises:
        LabError: weights that cannot be had or do not fit, more frozen stages than there are.
    """
    backbone = make_backbone(config.backbone, config.widths, config.freeze, config.freeze_batchnorm)
    if config.backbone_weights:
        newest = config.backbone_weights == "pretrain"
        path = latest_checkpoint("detection", commands=("pretrain",)) if newest else None
        load_backbone_weights(backbone, path or config.backbone_weights)
    centerness = config.assignment == "centre"
    return Detector(classes, backbone, prior=config.prior, centerness=centerness)


def evaluate(run: Run, model: Detector, data: Split, name: str):
    """Average precision on a split, with a picture of its first images, and the detections."""
    found = detect_all(model, data, run.device)
    run.picture(f"predictions_{name}", draw_predictions(data, found))
    scores = average_precision(found, data)
    return {f"{name}/{key}": value for key, value in scores.items()}, found


def make_optimizer(model: nn.Module, config: TrainConfig | PretrainConfig) -> torch.optim.AdamW:
    """AdamW that decays kernels; biases, scales and BatchNorm have no reason to shrink."""
    learnt = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learnt if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in learnt if p.ndim <= 1]},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=0.0, fused=True)


if __name__ == "__main__":  # torchrun --nproc-per-node 2 -m detection.train
    from detection.cli import train as command

    command()
