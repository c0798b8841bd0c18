"""Four architectures of one form: features, embedding, logits."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from fashion_mnist.config import Recipe, recipe_of
from trainloop import LabError, latest_checkpoint, load_checkpoint, load_into

CLASSES = 10


class Classifier(nn.Module):
    """Images (B, 1, 28, 28), white on black in 0..1, to logits (B, 10).

    Args:
        features: normalised images to feature maps (B, C, H, W) or, without `pool`, vectors (B, D).
        pool: feature maps to embeddings (B, D).
        size: D.
        dropout: share of the embedding dropped in training.
    """

    MEAN, STD = 0.2860, 0.3530  # of the training pixels; inside, so that nobody forgets them

    def __init__(
        self, features: nn.Module, pool: nn.Module | None, size: int, dropout: float
    ) -> None:
        super().__init__()
        self.features, self.pool = features, pool
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(size, CLASSES)

    @property
    def has_maps(self) -> bool:
        """Whether there are feature maps, which Grad-CAM needs."""
        return self.pool is not None

    def maps(self, images: Float[Tensor, "B 1 28 28"]) -> Float[Tensor, "B ..."]:
        """The last feature maps (B, C, H, W); of a model without any its vectors (B, D)."""
        return self.features((images - self.MEAN) / self.STD)

    def embed(self, images: Float[Tensor, "B 1 28 28"]) -> Float[Tensor, "B D"]:
        """What the last layer sees."""
        found = self.maps(images)
        return found if self.pool is None else self.pool(found)

    def forward(self, images: Float[Tensor, "B 1 28 28"]) -> Float[Tensor, "B 10"]:
        return self.head(self.dropout(self.embed(images)))


def build(recipe: Recipe) -> Classifier:
    """The model of a recipe, in channels_last: convolutions on a CPU are faster in it."""
    w = recipe.width
    if recipe.model == "linear":
        model = Classifier(nn.Flatten(), None, 28 * 28, recipe.dropout)
    elif recipe.model == "mlp":
        hidden = 16 * w
        layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(28 * 28, hidden), nn.ReLU(), nn.Dropout(recipe.dropout),
            nn.Linear(hidden, hidden), nn.ReLU(),
        )  # fmt: skip
        model = Classifier(layers, None, hidden, recipe.dropout)
    elif recipe.model == "cnn":
        layers = nn.Sequential(
            conv(1, w, kernel=5, stride=2, padding=2),  # (B, w, 14, 14)
            conv(w, 2 * w),
            conv(2 * w, 2 * w),
            nn.MaxPool2d(2),  # (B, 2w, 7, 7)
            conv(2 * w, 4 * w),
            conv(4 * w, 4 * w),
        )
        model = Classifier(layers, MaxAndMean(), 8 * w, recipe.dropout)
    else:
        layers = nn.Sequential(
            conv(1, w, kernel=5, stride=2, padding=2),  # (B, w, 14, 14)
            *stage(w, 2 * w, recipe.blocks),
            nn.MaxPool2d(2),  # (B, 2w, 7, 7)
            *stage(2 * w, 4 * w, recipe.blocks),
            nn.MaxPool2d(2, ceil_mode=True),  # (B, 4w, 4, 4)
            *stage(4 * w, 8 * w, recipe.blocks),
        )
        model = Classifier(layers, MaxAndMean(), 16 * w, recipe.dropout)
    return model.to(memory_format=torch.channels_last)


def conv(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, padding: int = 1
) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU; BatchNorm brings the bias."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def stage(inputs: int, outputs: int, blocks: int) -> list[nn.Module]:
    """Residual blocks at one resolution; the first changes the number of channels."""
    return [Residual(inputs if k == 0 else outputs, outputs) for k in range(blocks)]


class Residual(nn.Module):
    """y = ReLU(F(x) + x) with two 3x3 convolutions in F (He 2016, eq. 1 and 2).

    Where the number of channels changes, x goes through a 1x1 convolution. None has a stride: the
    backward pass of such a one corrupts memory in torch 2.7.1 (channels_last, few channels,
    AVX-512), so resolutions are halved by pooling.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = conv(inputs, outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.skip = nn.Identity()
        if inputs != outputs:
            self.skip = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B K h w"]:
        return F.relu(self.norm(self.second(self.first(x))) + self.skip(x), inplace=True)


class MaxAndMean(nn.Module):
    """Maximum and mean of each channel, D = 2 C: is it anywhere, and how much of it is there?"""

    def forward(self, maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D"]:
        return torch.cat([maps.amax((2, 3)), maps.mean((2, 3))], dim=1)


# --- what `train` kept ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """A model in evaluation mode, and how its logits become probabilities.

    Attributes:
        temperature: logits are divided by it; fitted on validation images.
        path: of the checkpoint.
    """

    model: Classifier
    recipe: Recipe
    temperature: float
    path: Path

    @property
    def flip_test(self) -> bool:
        """Whether an image is seen together with its mirror image."""
        return self.recipe.flip_test


def load_trained(path: Path | str = "") -> Trained:
    """The model of a checkpoint; of the newest training's where none is named.

    Raises:
        LabError: there is none, it is damaged, of another project, or its training did not end.
    """
    path = Path(path) if path else latest_checkpoint("fashion-mnist", "last.pt")
    saved = load_checkpoint(path, "fashion-mnist")
    if saved["command"] != "train":
        raise LabError(f"{path} was written by `{saved['command']}`: name one of `train`")
    if "temperature" not in saved["notes"]:
        raise LabError(
            f"{path} is of a training that has not ended: go on with "
            "`uv run --package fashion-mnist train --resume`"
        )
    config = saved["config"]
    recipe = recipe_of(config["preset"], {k: config.get(k) for k in Recipe.__dataclass_fields__})
    model = build(recipe)
    weights = {k: v for k, v in saved["states"]["ema"].items() if k != "updates"}
    load_into(path, {"model": model}, {"model": weights})
    return Trained(model.eval().requires_grad_(False), recipe, saved["notes"]["temperature"], path)
