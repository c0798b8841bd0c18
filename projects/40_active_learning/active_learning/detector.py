"""Train the detector from nothing, and measure it: what a study does dozens of times."""

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from active_learning.average_precision import average_precision
from active_learning.config import DetectorOptions
from active_learning.loss import detection_losses, make_targets
from active_learning.model import STRIDE, Detections, Detector, decode
from active_learning.scenes import Frames
from trainloop import Batches, NonFiniteError, warmup_cosine
from trainloop.device import seed_step

SHIFT = 4  # pixels that training frames are moved by at most
WEIGHT_DECAY, CLIP = 0.05, 10.0


def fit(
    frames: Frames,
    config: DetectorOptions,
    device: torch.device,
    seed: int,
    each_step: Callable[[int, float], None] = lambda step, loss: None,
) -> Detector:
    """A detector trained on all of `frames` for `config.steps` steps.

    Everything random follows from `seed` and the step; the same frames give the same weights.

    Args:
        each_step: called with the step, 1 .. steps, and its loss.

    Raises:
        NonFiniteError: the loss is NaN or infinite.
    """
    seed_step(seed, 0, device)
    model = Detector(len(frames.classes), frames.images.shape[1], config.width)
    model = model.to(device, memory_format=torch.channels_last).train()
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors}]
    optimizer = torch.optim.AdamW(groups, config.lr, weight_decay=0.0, fused=True)
    batches = Batches(len(frames), config.batch_size, seed)
    cells = tuple(side // STRIDE for side in frames.images.shape[-2:])
    frames = frames.to(device)
    for step in range(1, config.steps + 1):
        seed_step(seed, step, device)
        for group in optimizer.param_groups:
            group["lr"] = config.lr * warmup_cosine(step, config.steps, warmup=0.1)
        picked = batches.at(step).to(device)
        images, boxes = augment(frames.images[picked], frames.boxes[picked])
        targets = make_targets(boxes, frames.labels[picked], cells)

        loss = sum(detection_losses(model(images), targets))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        if not math.isfinite(value := loss.item()):
            raise NonFiniteError(f"the loss is {value} at step {step}: try a lower --lr")
        each_step(step, value)
    return model.eval()


def augment(images: Tensor, boxes: Float[Tensor, "B M 4"]) -> tuple[Tensor, Float[Tensor, "B M 4"]]:
    """Each frame moved by up to `SHIFT` pixels each way, its edges repeated, light and contrast
    changed. What leaves the image by half stays labelled: so it is at the pool's edges.
    """
    count, _, height, width = images.shape
    moved = F.pad(images.float(), (SHIFT,) * 4, mode="replicate")
    x, y = torch.randint(0, 2 * SHIFT + 1, (2, count), device=images.device)
    rows = (y[:, None] + torch.arange(height, device=images.device))[:, None, :, None]
    columns = (x[:, None] + torch.arange(width, device=images.device))[:, None, None, :]
    frame = torch.arange(count, device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    moved = moved[frame, channel, rows, columns]
    contrast, light = torch.rand(2, count, 1, 1, 1, device=images.device)
    moved = (moved - 110) * (0.7 + 0.6 * contrast) + 110 + 40 * (light - 0.5)
    shift = (SHIFT - torch.stack([x, y, x, y], -1))[:, None]
    limit = torch.tensor([width, height, width, height], device=images.device)
    return moved, (boxes + shift).clamp(min=0).minimum(limit)


@torch.no_grad()
def detect(model: Detector, frames: Frames, device: torch.device, batch: int = 200) -> Detections:
    """What the net finds in every frame, on the CPU."""
    found = [decode(model(images.to(device))) for images in frames.images.split(batch)]
    return Detections(
        *(torch.cat([getattr(one, part) for one in found]).cpu() for part in vars(found[0]))
    )


def score(found: Detections, frames: Frames) -> Float[np.ndarray, "2 K"]:
    """AP at IoU 0.50, and the mean over 0.50, 0.55 .. 0.95, of each class; NaN without objects."""
    table = average_precision(
        found.boxes.double().numpy(),
        found.scores.double().numpy(),
        found.labels.numpy(),
        frames.boxes.double().numpy(),
        frames.labels.numpy(),
        len(frames.classes),
    )
    return np.stack([table[0], table.mean(0)])
