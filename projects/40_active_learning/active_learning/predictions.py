"""What a strategy may look at: the net's view of every frame of the pool, and never a label."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from active_learning.model import DROPOUT, Detector, boxes_at, peaks
from active_learning.scenes import Frames

PEAKS = 6  # of a frame
SEEN = 0.3  # p(object) from which a peak counts as one


@dataclass(frozen=True)
class Predictions:
    """N frames with P peaks each, the surest first; K classes, F and E features.

    With members there are the same peaks, described by each of several nets (or of several passes
    with dropout).
    """

    objects: Float[Tensor, "N P"]  # p(object)
    classes: Float[Tensor, "N P K"]  # p(class | object)
    boxes: Float[Tensor, "N P 4"]  # xyxy in pixels
    features: Float[Tensor, "N P F"]  # what the last layer reads at each peak
    embedding: Float[Tensor, "N E"]  # of the whole frame: mean and largest of each feature
    members: Float[Tensor, "M N P O"] | None = None  # p(outcome), O = K + 1; the last is "nothing"

    @property
    def seen(self) -> Float[Tensor, "N P"]:
        """1 where a peak counts as an object, else 0."""
        return (self.objects >= SEEN).float()

    @property
    def outcomes(self) -> Float[Tensor, "N P O"]:
        """p(class k) = p(object) p(k | object) for each class, then p(nothing): they sum to 1."""
        return outcomes(self.objects, self.classes)

    def __len__(self) -> int:
        return len(self.objects)


def outcomes(objects: Float[Tensor, "*n"], classes: Float[Tensor, "*n K"]) -> Float[Tensor, "*n O"]:
    """Of a peak: each class, or nothing."""
    return torch.cat([objects[..., None] * classes, 1 - objects[..., None]], -1)


@torch.no_grad()
def predict(
    model: Detector,
    frames: Frames,
    device: torch.device,
    passes: int = 0,
    committee: tuple[Detector, ...] = (),
    batch: int = 200,
) -> Predictions:
    """Look at every frame once.

    Args:
        passes: describe each peak that many times, with dropout (Gal 2017).
        committee: describe each peak by these nets, `model` first, instead.
    """
    parts = [
        predict_batch(model, images.to(device), passes, committee)
        for images in frames.images.split(batch)
    ]
    joined = {
        name: torch.cat([getattr(part, name) for part in parts]).cpu()
        for name in ("objects", "classes", "boxes", "features", "embedding")
    }
    members = None
    if parts[0].members is not None:
        members = torch.cat([part.members for part in parts], 1).cpu()
    return Predictions(**joined, members=members)


def predict_batch(
    model: Detector, images: Tensor, passes: int, committee: tuple[Detector, ...]
) -> Predictions:
    """`predict` for one batch."""
    neck = model.features(images)  # (B, F, h, w)
    output = model.heads(neck)
    objects, cell = peaks(output).flatten(1).topk(PEAKS, dim=1)  # (B, P)

    def at_peaks(maps: Tensor) -> Tensor:  # (B, C, h, w) -> (B, P, C)
        index = cell[:, None].expand(-1, maps.shape[1], -1)
        return maps.flatten(2).gather(2, index).transpose(1, 2)

    def described(by: Detector, features: Tensor) -> Tensor:
        said = by.heads(features)
        heat = at_peaks(said.heat[:, None])[..., 0].sigmoid()
        return outcomes(heat, at_peaks(said.logits).softmax(-1))

    members = None
    if committee:
        members = torch.stack([described(net, net.features(images)) for net in committee])
    elif passes:
        # The features before dropout are the same in every pass: only the head is run again.
        members = torch.stack(
            [described(model, F.dropout2d(neck, DROPOUT, True)) for _ in range(passes)]
        )
    return Predictions(
        objects=objects,
        classes=at_peaks(output.logits).softmax(-1),
        boxes=boxes_at(output.box, cell),
        features=at_peaks(neck),
        embedding=torch.cat([neck.mean((2, 3)), neck.amax((2, 3))], 1),
        members=members,
    )


def only(predictions: Predictions, rows: Tensor) -> Predictions:
    """Some of the frames."""
    names = ("objects", "classes", "boxes", "features", "embedding")
    parts = {name: getattr(predictions, name)[rows] for name in names}
    members = None if predictions.members is None else predictions.members[:, rows]
    return replace(predictions, **parts, members=members)
