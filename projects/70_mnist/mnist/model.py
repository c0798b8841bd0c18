"""The CNN, as one list of layers that is easy to change."""

from pathlib import Path

import safetensors.torch
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from trainloop import (
    LabError,
    atomic_write,
    latest_checkpoint,
    load_checkpoint,
    load_into,
    runs_dir,
)


def build(width: int = 16, dropout: float = 0.2) -> nn.Sequential:
    """From images (B, 1, 28, 28), white on black in 0..1, to logits (B, 10).

    The first convolution has stride 2: at full resolution the early layers would cost most of the
    time and see little more. Global *max* pooling asks whether a stroke is anywhere, and makes the
    net indifferent to where it stands. In channels_last: convolutions on a CPU are faster in it.

    Args:
        width: channels w of the first convolution.
        dropout: share of the pooled features dropped in training.
    """
    w = width
    return nn.Sequential(
        Normalise(),
        conv(1, w, kernel=5, stride=2, padding=2),  # (B, w, 14, 14)
        conv(w, 2 * w),
        conv(2 * w, 2 * w),
        nn.MaxPool2d(2),  # (B, 2w, 7, 7)
        conv(2 * w, 4 * w),
        conv(4 * w, 4 * w, padding=0),  # (B, 4w, 5, 5)
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),  # (B, 4w)
        nn.Dropout(dropout),
        nn.Linear(4 * w, 10),
    ).to(memory_format=torch.channels_last)


def conv(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, padding: int = 1
) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU; BatchNorm brings the bias."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Normalise(nn.Module):
    """To mean 0 and deviation 1 over MNIST's training pixels; inside, so nobody forgets it."""

    MEAN, STD = 0.1307, 0.3081

    def forward(self, images: Float[Tensor, "B 1 28 28"]) -> Float[Tensor, "B 1 28 28"]:
        return (images - self.MEAN) / self.STD


# --- kept models ---------------------------------------------------------------------------------


def models_dir() -> Path:
    """Where `models` keeps them; the runs' folder, never git."""
    return runs_dir() / "mnist-models"


def save_model(model: nn.Module, path: Path, width: int, dropout: float) -> None:
    """Write weights and shape as safetensors, which holds no code."""
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    about = {"format": "pt", "width": str(width), "dropout": str(dropout)}
    path.parent.mkdir(parents=True, exist_ok=True)
    content = safetensors.torch.save(weights, about)
    atomic_write(path, lambda file: file.write(content))


def load_model(path: Path | str = "") -> nn.Sequential:
    """A model in evaluation mode: of `models` (.safetensors), or the average of a checkpoint.

    Args:
        path: left out: mnist_cnn_01 if it was kept, else the newest run's checkpoint.

    Raises:
        LabError: there is none, it is damaged, or its layers are not those of `build`.
    """
    path = Path(path or newest_model())
    if path.suffix != ".safetensors":
        checkpoint = load_checkpoint(path, "mnist")
        if "ema" not in checkpoint["states"]:
            raise LabError(f"{path} was written by `{checkpoint['command']}`: name one of `train`")
        weights = {k: v for k, v in checkpoint["states"]["ema"].items() if k != "updates"}
        shape = checkpoint["config"]
    else:
        if not path.is_file():
            raise LabError(f"no model at {path}: `uv run --package mnist models` makes three")
        try:
            with safe_open(path, "pt") as file:
                shape = file.metadata() or {}
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise LabError(f"{path} is damaged or no safetensors file: {error}") from None
        if not {"width", "dropout"} <= shape.keys():
            raise LabError(f"{path} was not written by `models`: name a file that was")
    model = build(int(shape["width"]), float(shape["dropout"]))
    load_into(path, {"model": model}, {"model": weights})
    return model.eval()


def newest_model() -> Path:
    """mnist_cnn_01 if it was kept, else the newest training's checkpoint."""
    kept = models_dir() / "mnist_cnn_01.safetensors"
    return kept if kept.is_file() else latest_checkpoint("mnist", "last.pt")
