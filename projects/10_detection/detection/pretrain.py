"""Pretrain the small backbone: what is in this crop? Labels of that kind are cheap to get."""

import torch
from jaxtyping import Float, Int64, UInt8
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from detection.augment import AUGMENTATIONS
from detection.backbone import SmallBackbone
from detection.config import PretrainConfig
from detection.data import Split, load, load_tabletop
from detection.train import make_optimizer
from trainloop import Batches, Ema, LabError, Run, warmup_cosine


class CropClassifier(nn.Module):
    """The backbone's coarsest level, averaged over the crop, and a linear layer."""

    def __init__(self, backbone: SmallBackbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.out = nn.Linear(backbone.channels[-1], classes)

    def forward(self, crops: UInt8[Tensor, "B 3 S S"]) -> Float[Tensor, "B C"]:
        return self.out(self.backbone(crops)[-1].mean((2, 3)))


def pretrain(config: PretrainConfig) -> dict[str, float | None]:
    """Train a classifier of crops around objects, each class beside `background`.

    Tabletop has scenes of its own for this: the detector is trained on others. Elsewhere the crops
    come from the training images; then only what their boxes say beyond the class is new to the
    detector.
    """
    config = Run.options("detection", config, "pretrain")
    if config.data == "tabletop":
        train_set = load_tabletop("pretrain", config.image_size)
    else:
        train_set = load(config.data, "train", config.image_size)
    validation_set = load(config.data, "val", config.image_size)
    owners = objects(train_set)
    if len(owners) == 0:
        raise LabError(f"no object in the training images of {config.data}: nothing to pretrain on")

    run = Run.open("detection", config, "pretrain")
    run.notes["classes"] = [*train_set.classes, "background"]
    model = CropClassifier(SmallBackbone(config.widths), len(train_set.classes) + 1)
    model = model.to(run.device, memory_format=torch.channels_last)
    optimizer = make_optimizer(model, config)
    ema = Ema(model, config.ema)
    batches = Batches(len(owners), config.batch_size, config.seed)
    held_out = fixed_crops(validation_set, config.crop_size)

    # The averaged backbone is saved under a name of its own: it is what `train` asks for.
    start = run.resume(model=model, optimizer=optimizer, ema=ema, backbone=ema.model.backbone)
    run.picture("crops", draw_crops(*held_out, run.notes["classes"]))
    net = run.parallel(model)
    for step in run.steps(start):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * warmup_cosine(step, config.steps)
        crops, labels = cut_crops(train_set, owners[batches.at(step)], config.crop_size)
        crops, labels = run.shard(crops.to(run.device), labels.to(run.device))
        with run.autocast():
            loss = F.cross_entropy(net(crops).float(), labels)

        optimizer.zero_grad()
        run.scaler.scale(loss).backward()
        run.scaler.step(optimizer)
        run.scaler.update()
        ema.update()

        run.log(step, loss=loss)
        if run.due(step, config.eval_every):
            accuracy = evaluate(ema.model, *held_out)
            run.log(step, **{"val/accuracy": accuracy})
            run.save(step, metric=accuracy)
    return run.finish(crops_seen=config.steps * config.batch_size)


def objects(data: Split) -> Int64[Tensor, "n 2"]:
    """Image and slot of every object that is not ignored."""
    return ((data.labels >= 0) & ~data.ignore).nonzero()


def cut_crops(
    data: Split, owners: Int64[Tensor, "B 2"], size: int
) -> tuple[UInt8[Tensor, "B 3 size size"], Int64[Tensor, " B"]]:
    """A square around each object, moved, scaled, mirrored and coloured at random, and its class.

    One in C + 1 is taken from elsewhere in the image instead and is background, where it covers
    none of the objects; the label of background is C.
    """
    count, (image, slot) = len(owners), owners.T
    boxes, labels = data.boxes[image, slot], data.labels[image, slot]
    low, high = boxes[:, :2], boxes[:, 2:]
    side = (high - low).amax(1).clamp(min=8) * (1 + 0.8 * torch.rand(count))
    centre = (low + high) / 2 + 0.15 * side[:, None] * (2 * torch.rand(count, 2) - 1)

    elsewhere = torch.rand(count, 2) * data.images.shape[-1]
    others = data.boxes[image]  # (B, M, 4)
    gap = torch.maximum(
        others[..., :2] - (elsewhere + side[:, None] / 2)[:, None],
        (elsewhere - side[:, None] / 2)[:, None] - others[..., 2:],
    ).amax(-1)  # (B, M): above 0 where the square and the object do not touch
    free = ((gap > 0) | (data.labels[image] < 0)).all(1)
    background = free & (torch.rand(count) < 1 / (len(data.classes) + 1))
    centre = torch.where(background[:, None], elsewhere, centre)
    labels = torch.where(background, len(data.classes), labels)

    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    crops = sample_squares(data.images[image], centre, side, mirror, size)
    nothing = torch.zeros(count, 0, 4), torch.zeros(count, 0).long(), torch.zeros(count, 0).bool()
    crops, *_ = AUGMENTATIONS["colour"](crops, *nothing)
    return crops, labels


def sample_squares(
    images: UInt8[Tensor, "B 3 H W"],
    centre: Float[Tensor, "B 2"],
    side: Float[Tensor, " B"],
    mirror: Float[Tensor, " B"],
    size: int,
) -> UInt8[Tensor, "B 3 size size"]:
    """One square of each image, `side` pixels wide around `centre` (x, y), at size x size.

    mirror: -1 turns a square left to right, 1 leaves it. Beyond the image its edge goes on.
    """
    height, width = images.shape[2:]
    span = torch.tensor([width, height])
    scale = side[:, None] / span  # grid_sample measures the image from -1 to 1
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = scale[:, 0] * mirror, scale[:, 1]
    theta[:, :, 2] = 2 * centre / span - 1
    grid = F.affine_grid(theta, [len(images), 3, size, size], align_corners=False)
    squares = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return squares.round().clamp(0, 255).to(torch.uint8)


def fixed_crops(
    data: Split, size: int, most: int = 1000
) -> tuple[UInt8[Tensor, "n 3 size size"], Int64[Tensor, " n"]]:
    """The same random crops each time, to hold a classifier against."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return cut_crops(data, objects(data)[:most], size)


@torch.no_grad()
def evaluate(
    model: CropClassifier, crops: UInt8[Tensor, "n 3 S S"], labels: Int64[Tensor, " n"]
) -> float:
    """The share of crops whose class is found; the model in evaluation mode meanwhile."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    hits = [
        (model(part.to(device)).argmax(1).cpu() == wanted).sum().item()
        for part, wanted in zip(crops.split(256), labels.split(256), strict=True)
    ]
    model.train(was_training)
    return sum(hits) / len(labels)


def draw_crops(
    crops: UInt8[Tensor, "n 3 S S"], labels: Int64[Tensor, " n"], classes: list[str]
) -> Figure:
    """The first forty crops with their classes."""
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    axes = figure.subplots(4, 10).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, crop, label in zip(axes, crops, labels, strict=False):
        axis.imshow(crop.permute(1, 2, 0).numpy())
        axis.set_title(classes[int(label)], fontsize=8)
    return figure
