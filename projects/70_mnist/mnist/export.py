"""A model as ONNX: pixels in, probabilities out, for one image and for any number."""

from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from mnist.config import ExportConfig
from mnist.model import load_model
from trainloop import LabError, atomic_write

OPSET = 17
TOLERANCE = 1e-5  # of a probability; rounding alone makes about 1e-7


def export_model(config: ExportConfig) -> list[Path]:
    """Write both files and hold each against torch; a wrong one is not left behind.

    Raises:
        LabError: there is no model, or a file answers otherwise than torch.
    """
    model = Probabilities(load_model(config.model))
    single = config.out.with_stem(f"{config.out.stem}_1")
    for path, fixed in ((config.out, False), (single, True)):
        exported = to_onnx(model, fixed)
        apart = difference(model, exported, fixed)
        if apart > TOLERANCE:
            raise LabError(f"{path} would differ from torch by {apart:.1e}: it was not written")
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, lambda file, exported=exported: file.write(exported))
        batch = "one image" if fixed else "any number of images"
        print(f"{path}: {batch}, {len(exported) / 1e3:.0f} kB, within {apart:.0e} of torch")
    return [config.out, single]


class Probabilities(nn.Module):
    """The model with its softmax: what a user of the file wants, and no logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Float[Tensor, "N 1 28 28"]) -> Float[Tensor, "N 10"]:
        return self.model(images).softmax(dim=1)


def to_onnx(model: Probabilities, fixed: bool) -> bytes:
    """The ONNX file. Input `images`, float32 (N, 1, 28, 28), white on black in 0..1, row 0 at the
    top; output `probabilities`, float32 (N, 10).

    Args:
        fixed: N is 1 (Houdini's operators like it so), else any number.
    """
    buffer = BytesIO()
    torch.onnx.export(
        model.cpu().eval(),
        (torch.zeros(1, 1, 28, 28),),
        buffer,
        input_names=["images"],
        output_names=["probabilities"],
        dynamic_axes=None if fixed else {"images": {0: "N"}, "probabilities": {0: "N"}},
        opset_version=OPSET,
        dynamo=False,  # the other exporter needs a package more
    )
    onnx.checker.check_model(onnx.load_model_from_string(buffer.getvalue()), full_check=True)
    return buffer.getvalue()


def run_onnx(exported: bytes, images: Float32[np.ndarray, "N 1 28 28"]) -> np.ndarray:
    """Probabilities (N, 10) by onnxruntime, on one thread of the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


@torch.no_grad()
def difference(model: Probabilities, exported: bytes, fixed: bool) -> float:
    """The largest difference of a probability between torch and the file, over random strokes."""
    generator = torch.Generator().manual_seed(0)
    images = (torch.rand(16, 1, 28, 28, generator=generator) > 0.8).float()
    expected = model(images).numpy()
    parts = np.split(images.numpy(), 16) if fixed else [images.numpy()]
    found = np.concatenate([run_onnx(exported, part) for part in parts])
    return float(np.abs(found - expected).max())
