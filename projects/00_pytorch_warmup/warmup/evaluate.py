"""Accuracy, the confusion matrix, and the mistakes worth looking at."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from warmup.data import Labelled


@torch.no_grad()
def predict(model: nn.Module, data: Labelled, batch: int = 1000) -> Float[Tensor, "N classes"]:
    """Log-probabilities of every image, the model in evaluation mode while it lasts."""
    was_training = model.training
    model.eval()
    logits = torch.cat([model(images) for images in data.images.split(batch)])
    model.train(was_training)
    return logits.float().log_softmax(dim=1)


def scores(log_prob: Float[Tensor, "N classes"], labels: Int64[Tensor, " N"]) -> dict[str, float]:
    """accuracy: share of images whose most likely class is right; nll: mean -log p(label)."""
    return {
        "accuracy": (log_prob.argmax(1) == labels).double().mean().item(),
        "nll": F.nll_loss(log_prob, labels).item(),
    }


def confusion_matrix(
    log_prob: Float[Tensor, "N classes"], labels: Int64[Tensor, " N"]
) -> Int64[Tensor, "classes classes"]:
    """Counts: row is the label, column the prediction."""
    classes = log_prob.shape[1]
    pairs = labels * classes + log_prob.argmax(1)
    return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def draw_confusion(counts: Int64[Tensor, "classes classes"], names: Sequence[str]) -> Figure:
    """The confusion matrix with its counts; colour shows mistakes only, the diagonal would win."""
    counts = counts.cpu()
    figure = Figure(figsize=(5.6, 5.2), layout="constrained")
    axis = figure.subplots()
    mistakes = counts.clone().fill_diagonal_(0)
    axis.imshow(mistakes.numpy(), cmap="Reds")
    dark = mistakes.max().item() * 0.6
    for row in range(len(counts)):
        for column in range(len(counts)):
            number = counts[row, column].item()
            if number:
                colour = "white" if row != column and number > dark else "black"
                weight = "bold" if row == column else "normal"
                axis.text(column, row, str(number), ha="center", va="center", fontsize=8,
                          color=colour, fontweight=weight)  # fmt: skip
    axis.set(xlabel="predicted", ylabel="label")
    axis.set_xticks(range(len(counts)), names, rotation=0 if max(map(len, names)) < 3 else 60)
    axis.set_yticks(range(len(counts)), names)
    axis.set_title(f"{int(mistakes.sum())} mistakes in {int(counts.sum()):,}", fontsize=11)
    return figure


def draw_worst(
    data: Labelled, log_prob: Float[Tensor, "N classes"], names: Sequence[str], count: int = 24
) -> Figure:
    """The images to whose true class the model gave the least probability, eight a row."""
    of_label = log_prob.gather(1, data.labels[:, None])[:, 0]
    worst = of_label.argsort()[:count].tolist()
    rows = -(-len(worst) // 8)
    height = 1.3 if max(map(len, names)) < 3 else 1.5
    figure = Figure(figsize=(8, height * rows + 0.2), layout="constrained")
    axes = list(figure.subplots(rows, 8, squeeze=False).flat)
    for axis in axes:
        axis.axis("off")
    for axis, index in zip(axes, worst, strict=False):
        pixels = data.images[index].permute(1, 2, 0).cpu().numpy()  # (H, W, C)
        axis.imshow(pixels, cmap="gray_r" if pixels.shape[2] == 1 else None, vmin=0, vmax=255)
        guess, label = int(log_prob[index].argmax()), int(data.labels[index])
        sure = log_prob[index].max().exp().item()
        between = " as " if height < 1.4 else "\nas "
        axis.set_title(f"{names[label]}{between}{names[guess]} ({sure:.0%})", fontsize=8,
                       color="firebrick" if guess != label else "black")  # fmt: skip
    return figure
