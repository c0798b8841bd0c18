"""A small CNN, to ask what can be learned from the synthetic digits alone."""

from jaxtyping import Float, UInt8
from torch import Tensor, nn


class SmallCnn(nn.Module):
    """Five convolutions, global max pooling, one linear layer; bytes in, logits out.

    Args:
        width: channels of the first convolution; later ones have 2x and 4x as many.
    """

    def __init__(self, width: int = 8) -> None:
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
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(4 * w, 10))

    def forward(self, images: UInt8[Tensor, "B 1 28 28"]) -> Float[Tensor, "B 10"]:
        """Logits of the ten digits."""
        features = self.features(images / 255.0 - 0.13)
        return self.head(features.amax((2, 3)))


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, padding: int = 1):
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
