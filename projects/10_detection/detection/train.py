"""Train the detector: the whole loop, top to bottom."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from detection.config import TrainConfig
from detection.data import Split, load
from detection.evaluate import average_precision, detect_all, draw_predictions
from detection.loss import detection_loss, task_aligned_assignment
from detection.model import Detector
from trainloop import Batches, Ema, Run, mean_over_processes, warmup_cosine


def train(config: TrainConfig) -> dict[str, float | None]:
    """Train, look at the validation images on the way, test once at the end."""
    config = Run.options("detection", config)
    train_set = load(config.data, "train", config.image_size)
    if config.overfit:
        train_set = validation_set = test_set = train_set.first(config.overfit)
    else:
        validation_set = load(config.data, "val", config.image_size)
        test_set = load(config.data, "test", config.image_size)

    run = Run.open("detection", config)
    run.notes["classes"] = list(train_set.classes)
    model = Detector(len(train_set.classes), config.widths).to(
        run.device, memory_format=torch.channels_last
    )
    optimizer = make_optimizer(model, config)
    ema = Ema(model, config.ema)
    batches = Batches(len(train_set.images), config.batch_size, config.seed)

    start = run.resume(model=model, optimizer=optimizer, ema=ema)
    net = run.parallel(model)
    for step in run.steps(start):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * warmup_cosine(step, config.steps)
        images, boxes, labels, ignore = train_set.batch(batches.at(step), run.device)
        if not config.overfit:
            images, boxes = random_flip(random_colours(images), boxes)
        images, boxes, labels, ignore = run.shard(images, boxes, labels, ignore)

        with run.autocast():
            predictions = net(images)
        assignment = task_aligned_assignment(predictions, boxes, labels, ignore, top=config.top)
        normaliser = mean_over_processes(assignment.quality.sum()).clamp(min=1.0)
        classification, box = detection_loss(
            predictions, assignment, boxes, labels, normaliser, box_weight=config.box_weight
        )
        loss = classification + box

        optimizer.zero_grad()
        run.scaler.scale(loss).backward()
        run.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        run.scaler.step(optimizer)
        run.scaler.update()
        ema.update()

        run.log(step, loss=loss, loss_class=classification, loss_box=box, grad_norm=norm)
        if run.due(step, config.eval_every):
            scores = evaluate(run, ema.model, validation_set, "val")
            run.log(step, **scores)
            run.save(step, metric=scores["val/ap"])

    scores = evaluate(run, ema.model, test_set, "test")
    run.log(config.steps, **scores)
    return run.finish(images_seen=config.steps * config.batch_size)


def evaluate(run: Run, model: Detector, data: Split, name: str) -> dict[str, float | None]:
    """Average precision on a split, with a picture of its first images."""
    found = detect_all(model, data, run.device)
    run.picture(f"predictions_{name}", draw_predictions(data, found))
    return {f"{name}/{key}": value for key, value in average_precision(found, data).items()}


def random_flip(
    images: UInt8[Tensor, "B 3 H W"], boxes: Float[Tensor, "B M 4"]
) -> tuple[UInt8[Tensor, "B 3 H W"], Float[Tensor, "B M 4"]]:
    """Mirror half of the images, and their boxes, left to right."""
    flip = torch.rand(len(images), device=images.device) < 0.5
    x1, y1, x2, y2 = boxes.unbind(-1)
    mirrored = torch.stack([images.shape[3] - x2, y1, images.shape[3] - x1, y2], dim=-1)
    return (
        torch.where(flip[:, None, None, None], images.flip(3), images),
        torch.where(flip[:, None, None], mirrored, boxes),
    )


def random_colours(images: UInt8[Tensor, "B 3 H W"]) -> UInt8[Tensor, "B 3 H W"]:
    """Each image with its channels in another order, brighter or darker: shape is what counts."""
    count, device = len(images), images.device
    order = torch.rand(count, 3, device=device).argsort(1)
    shuffled = images[torch.arange(count, device=device)[:, None], order]
    brightness = 0.15 * torch.randn(count, 1, 1, 1, device=device)
    tint = 0.1 * torch.randn(count, 3, 1, 1, device=device)
    return (shuffled * (brightness + tint).exp()).clamp(0, 255).to(torch.uint8)


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW that decays kernels; biases, scales and BatchNorm have no reason to shrink."""
    kernels = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": kernels, "weight_decay": config.weight_decay}, {"params": others}]
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=0.0, fused=True)


if __name__ == "__main__":  # torchrun --nproc-per-node 2 -m detection.train
    from detection.cli import train as command

    command()
