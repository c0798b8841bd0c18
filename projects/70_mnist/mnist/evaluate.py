"""Probabilities, scores, and pictures of digits."""

import torch
from jaxtyping import Float, Int64, UInt8
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from mnist.data import Labelled


@torch.no_grad()
def log_probabilities(
    model: nn.Module, images: UInt8[Tensor, "N 1 h w"], batch: int = 1000
) -> Float[Tensor, "N 10"]:
    """log p(digit) of every image, the model in evaluation mode while it lasts."""
    was_training = model.training
    model.eval()
    logits = torch.cat([model(part.float() / 255) for part in images.split(batch)])
    model.train(was_training)
    return logits.float().log_softmax(dim=1)


def scores(log_prob: Float[Tensor, "N 10"], labels: Int64[Tensor, " N"]) -> dict[str, float]:
    """accuracy: share of images whose most likely digit is right; nll: mean -log p(label)."""
    return {
        "accuracy": (log_prob.argmax(1) == labels).double().mean().item(),
        "nll": F.nll_loss(log_prob, labels).item(),
    }


def draw_digits(images: UInt8[Tensor, "N 1 h w"], titles: list[str], columns: int = 8) -> Figure:
    """Images in rows, black on white, each with its title above it."""
    count, _, height, width = images.shape
    rows, title = -(-count // columns), 10  # pixels left free for a title
    canvas = torch.zeros(rows * (height + title), columns * (width + 4), dtype=torch.uint8)
    figure = Figure(figsize=(columns * 1.1, rows * 1.3))
    axis = figure.add_axes((0, 0, 1, 1))
    for index, (image, text) in enumerate(zip(images, titles, strict=True)):
        top = index // columns * (height + title) + title
        left = index % columns * (width + 4) + 2
        canvas[top : top + height, left : left + width] = image[0]
        axis.text(left + width / 2, top - 2, text, ha="center", fontsize=9)
    axis.imshow(canvas.numpy(), cmap="gray_r", vmin=0, vmax=255)
    axis.axis("off")
    return figure


def draw_worst(data: Labelled, log_prob: Float[Tensor, "N 10"], count: int = 24) -> Figure:
    """The images to whose label the model gave the least probability: label, guess, certainty."""
    of_label = log_prob.gather(1, data.labels[:, None])[:, 0]
    worst = data.take(of_label.argsort()[:count])
    sure, guesses = log_prob[of_label.argsort()[:count]].max(dim=1)
    titles = [
        f"{label} as {guess} ({p:.0%})"
        for label, guess, p in zip(
            worst.labels.tolist(), guesses.tolist(), sure.exp().tolist(), strict=True
        )
    ]
    return draw_digits(worst.images, titles)
