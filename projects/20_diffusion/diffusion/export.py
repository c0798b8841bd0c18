"""The denoiser as ONNX, its weights as safetensors; each read back and held against torch."""

import json
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import safetensors.torch
import torch
from torch import nn

from diffusion.config import ExportConfig
from diffusion.model import build
from diffusion.sampling import Trained, load_trained
from trainloop import LabError, atomic_write

OPSET = 17
TOLERANCE = 1e-4  # of a prediction, whose deviation is about 1; rounding alone makes about 1e-6


def export_model(config: ExportConfig) -> list[Path]:
    """Write OUT.onnx and OUT.safetensors; a file that answers otherwise is not left behind.

    Raises:
        LabError: there is no checkpoint, or a file would differ from torch.
    """
    trained = load_trained(config.checkpoint, config.weights, "cpu")
    contents = {
        config.out: (to_onnx(trained), run_onnx),
        config.out.with_suffix(".safetensors"): (to_safetensors(trained), run_safetensors),
    }
    for path, (content, answer) in contents.items():
        apart = difference(trained, content, answer)
        if not apart <= TOLERANCE:
            raise LabError(f"{path} would differ from torch by {apart:.1e}: it was not written")
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, lambda file, content=content: file.write(content))
        print(f"{path}: {len(content) / 1e6:.1f} MB, within {apart:.0e} of torch")
    return list(contents)


def to_onnx(trained: Trained) -> bytes:
    """Inputs `x_t` (N, C, H, W) or (N, 2), float32; `t` and `label` (N,), int64. Output
    `prediction`, in the shape of x_t. Its metadata say what is predicted, and on which schedule."""
    buffer = BytesIO()
    names = ["x_t", "t", "label"]
    torch.onnx.export(
        trained.model,
        questions(trained, 2),
        buffer,
        input_names=names,
        output_names=["prediction"],
        dynamic_axes={name: {0: "N"} for name in [*names, "prediction"]},
        opset_version=OPSET,
        dynamo=False,  # the other exporter needs a package more
    )
    model = onnx.load_model_from_string(buffer.getvalue())
    onnx.checker.check_model(model, full_check=True)
    onnx.helper.set_model_props(model, about(trained))
    return model.SerializeToString()


def to_safetensors(trained: Trained) -> bytes:
    """The weights; the metadata hold what `build` needs."""
    weights = {name: value.contiguous() for name, value in trained.model.state_dict().items()}
    return safetensors.torch.save(weights, {"format": "pt", **about(trained)})


def about(trained: Trained) -> dict[str, str]:
    """What one must know to sample with a file, in words."""
    config = trained.config
    return {
        "prediction": config.prediction,
        "schedule": config.schedule,
        "T": str(config.T),
        "shape": json.dumps(trained.shape),
        "classes": json.dumps(trained.classes),
        "config": json.dumps(asdict(config)),
    }


def questions(trained: Trained, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noise, and times and labels of all kinds."""
    generator = torch.Generator().manual_seed(0)
    x_t = torch.randn(count, *trained.shape, generator=generator)
    t = torch.linspace(1, trained.process.T, count).long()
    return x_t, t, torch.arange(count) % (len(trained.classes) + 1)


def run_onnx(content: bytes, x_t: np.ndarray, t: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The prediction by onnxruntime, on one thread of the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x_t": x_t, "t": t, "label": label})[0]


@torch.no_grad()
def run_safetensors(
    content: bytes, x_t: np.ndarray, t: np.ndarray, label: np.ndarray
) -> np.ndarray:
    """The prediction of a network that is built from the file alone."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    config, shape = json.loads(header["config"]), tuple(json.loads(header["shape"]))
    classes = len(json.loads(header["classes"]))
    model = build(shape, classes, tuple(config["widths"]), config["time_scale"])
    model.load_state_dict(safetensors.torch.load(content))
    return model(*map(torch.from_numpy, (x_t, t, label))).numpy()


@torch.no_grad()
def difference(trained: Trained, content: bytes, answer) -> float:
    """The largest difference of a prediction between torch and what `answer` makes of the file."""
    asked = questions(trained, 13)
    model: nn.Module = trained.model
    found = answer(content, *(tensor.numpy() for tensor in asked))
    return float(np.abs(found - model(*asked).numpy()).max())
