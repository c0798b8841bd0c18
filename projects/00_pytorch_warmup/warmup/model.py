"""A small fast CNN for 28x28 images."""

from jaxtyping import Float, UInt8
from torch import Tensor, nn


class SmallCnn(nn.Module):
    """Five convolutions, global max pooling, one linear layer.

    The first convolution has stride 2: at full resolution the early layers would cost most of the
    time and see little more. Global *max* pooling asks whether a stroke is anywhere, and makes the
    net indifferent to where the digit stands.

    Args:
        width: channels of the first convolution; later ones have 2x and 4x as many.
        classes: number of classes.
        dropout: share of the pooled features dropped in training.
    """

    def __init__(self, width: int = 8, classes: int = 10, dropout: float = 0.2) -> None:
        super().__init__()
        w = width
        self.features = nn.Sequential(
            conv(1, w, kernel=5, stride=2, padding=2),  # (B, w, 14, 14)
            conv(w, 2 * w),
            conv(2 * w, 2 * w),
            nn.MaxPool2d(2),  # (B, 2w, 7, 7)
            conv(2 * w, 4 * w),
            conv(4 * w, 4 * w, padding=0),  # (B, 4w, 5, 5)
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * w, classes)

    def forward(self, images: UInt8[Tensor, "B 1 28 28"]) -> Float[Tensor, "B classes"]:
        """Logits. Normalisation is part of the model, so nobody can forget it or do it twice."""
        x = (images.float() - 33.3) / 78.6  # mean and deviation of MNIST's training pixels
        x = self.features(x).amax(dim=(2, 3))  # (B, 4w)
        return self.head(self.dropout(x))


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, padding: int = 1):
    """Convolution, BatchNorm, ReLU; BatchNorm brings the bias."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
