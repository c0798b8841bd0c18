"""Three models of growing insight into images: linear, fully connected, convolutional."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn


class Normalise(nn.Module):
    """Bytes to numbers of mean 0 and deviation 1 per channel, over the training pixels.

    It is the first layer of every model here, so nobody can forget it or do it twice, and its two
    constants travel with the weights.
    """

    def __init__(self, images: UInt8[Tensor, "N C H W"]) -> None:
        super().__init__()
        pixels = images[:10_000].float()  # of more the third digit changes
        self.register_buffer("mean", pixels.mean(dim=(0, 2, 3))[:, None, None])
        self.register_buffer("std", pixels.std(dim=(0, 2, 3)).clamp(min=1.0)[:, None, None])

    def forward(self, images: UInt8[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return (images.float() - self.mean) / self.std


class SmallCnn(nn.Module):
    """Five convolutions, global max pooling, one linear layer.

    The first convolution has stride 2 (1 where images have fewer than 16 pixels a side): at full
    resolution the early layers would cost most of the time and see little more. Global *max*
    pooling asks whether a stroke is anywhere, and makes the net indifferent to where it stands.

    Args:
        channels: of the images.
        size: the images' height, pixels.
        width: channels of the first convolution; later ones have 2x and 4x as many.
        classes: number of classes.
        dropout: share of the pooled features dropped in training.
    """

    def __init__(
        self, channels: int, size: int, width: int, classes: int = 10, dropout: float = 0.2
    ) -> None:
        super().__init__()
        w = width
        self.features = nn.Sequential(
            conv(channels, w, kernel=5, stride=2 if size >= 16 else 1, padding=2),  # (B, w, 14, 14)
            conv(w, 2 * w),
            conv(2 * w, 2 * w),
            nn.MaxPool2d(2),  # (B, 2w, 7, 7)
            conv(2 * w, 4 * w),
            conv(4 * w, 4 * w, padding=0),  # (B, 4w, 5, 5)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * w, classes)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B classes"]:
        """Logits of normalised images."""
        x = self.features(x).amax(dim=(2, 3))  # (B, 4w)
        return self.head(self.dropout(x))


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, padding: int = 1):
    """Convolution, BatchNorm, ReLU; BatchNorm brings the bias."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def mlp(inputs: int, width: int, classes: int = 10, dropout: float = 0.2) -> nn.Sequential:
    """Two hidden layers of 16 * width and 8 * width units."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs, 16 * width),
        nn.ReLU(),
        nn.Linear(16 * width, 8 * width),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(8 * width, classes),
    )


def build(
    name: str, images: UInt8[Tensor, "N C H W"], width: int, dropout: float, classes: int = 10
) -> nn.Sequential:
    """`linear`, `mlp` or `cnn` for such images, from bytes to logits; normalised by their pixels.

    In channels_last: convolutions on a CPU are a third faster in it.
    """
    _, channels, height, columns = images.shape
    inputs = channels * height * columns
    match name:
        case "linear":
            net = nn.Sequential(nn.Flatten(), nn.Linear(inputs, classes))
        case "mlp":
            net = mlp(inputs, width, classes, dropout)
        case "cnn":
            net = SmallCnn(channels, height, width, classes, dropout)
        case _:
            raise ValueError(f"no model is called {name!r}")
    model = nn.Sequential()
    model.add_module("normalise", Normalise(images))
    model.add_module("net", net)
    return model.to(memory_format=torch.channels_last)
