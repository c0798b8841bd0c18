"""A model and its predictions, handed over to Houdini."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from jaxtyping import Float, Float32, UInt8
from PIL import Image
from torch import Tensor, nn

from fashion_mnist.config import ExportConfig
from fashion_mnist.data import CLASSES, SIDE, Labelled, load
from fashion_mnist.maps import place
from fashion_mnist.model import Trained, load_trained
from fashion_mnist.predict import both_ways, predict
from trainloop import LabError, Run, atomic_write

OPSET = 17
TOLERANCE = 1e-5  # of a probability, and of an embedding against its largest
VERSION = 1  # of predictions.npz


def export(config: ExportConfig) -> dict[str, float | int | None]:
    """Write predictions.npz, atlas.png and two ONNX files, and hold each to what it is made of.

    Raises:
        LabError: there is no model, or a file does not say what it should: it is not left behind.
    """
    trained = load_trained(config.model_file)
    _, _, test_set = load()
    data = test_set.take(torch.arange(min(config.images, len(test_set.images))))
    run = Run.open("fashion-mnist", config, "export")
    run.resume()
    folder = Path(config.out).absolute() if config.out else run.folder
    folder.mkdir(parents=True, exist_ok=True)

    arrays = predictions(trained, data, config)
    write_arrays(folder / "predictions.npz", arrays)
    write_atlas(folder / "atlas.png", data.images, int(arrays["atlas_columns"]))
    module, apart = Exported(trained), 0.0
    probe = data.images[:64].float() / 255
    for name, fixed in (("model.onnx", False), ("model_1.onnx", True)):
        exported = to_onnx(module, fixed)
        apart = max(apart, difference(module, exported, probe, fixed))
        if not apart <= TOLERANCE:
            raise LabError(f"{name} would differ from torch by {apart:.1e}: it was not written")
        atomic_write(folder / name, lambda file, exported=exported: file.write(exported))
        batch = "one image" if fixed else "any number of images"
        print(f"{folder / name}: {batch}, {len(exported) / 1e3:.0f} kB")
    print(f"{folder / 'predictions.npz'}: {len(data.labels):,} predictions, atlas.png beside it")
    print(f"next: uv run --package houdini import {folder / 'predictions.npz'}")
    run.log(1, round_trip=apart, accuracy=float((arrays["prediction"] == arrays["label"]).mean()))
    return run.finish(images=len(data.labels))


# --- predictions ---------------------------------------------------------------------------------


def predictions(trained: Trained, data: Labelled, config: ExportConfig) -> dict[str, np.ndarray]:
    """What predictions.npz holds; the keys are explained in houdini's `results/npz.py`.

    Probabilities are those after the temperature, float32, each row summing to 1.
    """
    logits, embedding = predict(trained, data.images)
    probabilities = (logits.double() / trained.temperature).softmax(1).float().numpy()
    count = len(data.labels)
    return {
        "version": np.array(VERSION),
        "index": np.arange(count),
        "label": data.labels.numpy(),
        "prediction": probabilities.argmax(1),  # of the rounded ones, so that no tie breaks it
        "probabilities": probabilities,
        "embedding": embedding.numpy(),
        "map2d": place(embedding.numpy(), 2, config.maps, config.seed),
        "map3d": place(embedding.numpy(), 3, config.maps_3d, config.seed),
        "class_names": np.array(CLASSES),
        "atlas_columns": np.array(int(np.ceil(np.sqrt(count)))),
        "atlas_cell": np.array(SIDE),
    }


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write the arrays, without pickle, and read them again.

    Raises:
        LabError: what is read differs.
    """
    buffer = BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    buffer.seek(0)
    with np.load(buffer, allow_pickle=False) as again:
        same = set(again.files) == set(arrays) and all(
            again[key].dtype == value.dtype and np.array_equal(again[key], value)
            for key, value in arrays.items()
        )
    if not same:
        raise LabError(f"{path} would not hold what was predicted: it was not written")
    atomic_write(path, lambda file: file.write(buffer.getvalue()))


def write_atlas(path: Path, images: UInt8[Tensor, "N 1 h w"], columns: int) -> None:
    """All images in one, image i in cell i, row-major from the top left corner, 8-bit grey."""
    count, _, height, width = images.shape
    rows = -(-count // columns)
    cells = np.zeros((rows * columns, height, width), np.uint8)
    cells[:count] = images[:, 0].numpy()
    sheet = cells.reshape(rows, columns, height, width).swapaxes(1, 2)
    picture = Image.fromarray(sheet.reshape(rows * height, columns * width))
    atomic_write(path, lambda file: picture.save(file, format="png"))


# --- ONNX ----------------------------------------------------------------------------------------


class Exported(nn.Module):
    """The model with all that belongs to it: normalisation, mirror image, temperature, softmax."""

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.model, self.flip = trained.model, trained.flip_test
        self.temperature = trained.temperature

    def forward(
        self, images: Float[Tensor, "N 1 28 28"]
    ) -> tuple[Float[Tensor, "N 10"], Float[Tensor, "N D"]]:
        """Images, white on black in 0..1, row 0 at the top: probabilities and embeddings."""
        embedding = both_ways(self.model, images) if self.flip else self.model.embed(images)
        return (self.model.head(embedding) / self.temperature).softmax(dim=1), embedding


def to_onnx(module: Exported, fixed: bool) -> bytes:
    """The ONNX file: input `images` float32 (N, 1, 28, 28), outputs `probs` and `embedding`.

    Args:
        fixed: N is 1, else any number, the only axis without a number.
    """
    names = {"images": {0: "N"}, "probs": {0: "N"}, "embedding": {0: "N"}}
    buffer = BytesIO()
    torch.onnx.export(
        module.eval(),
        (torch.zeros(1, 1, SIDE, SIDE),),
        buffer,
        input_names=["images"],
        output_names=["probs", "embedding"],
        dynamic_axes=None if fixed else names,
        opset_version=OPSET,
        dynamo=False,  # the other exporter needs a package more
    )
    onnx.checker.check_model(onnx.load_model_from_string(buffer.getvalue()), full_check=True)
    return buffer.getvalue()


def run_onnx(exported: bytes, images: Float32[np.ndarray, "N 1 28 28"]) -> list[Any]:
    """`probs` (N, 10) and `embedding` (N, D) by onnxruntime, on one thread of the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    return session.run(["probs", "embedding"], {"images": images})


@torch.no_grad()
def difference(
    module: Exported, exported: bytes, images: Float[Tensor, "N 1 28 28"], fixed: bool
) -> float:
    """The largest difference between torch and the file, of a probability or of an embedding.

    Embeddings have no unit: theirs is divided by the largest value where that is above 1.
    """
    expected = [found.numpy() for found in module(images)]
    parts = images.numpy()
    parts = np.split(parts, len(parts)) if fixed else [parts]
    found = [np.concatenate(a) for a in zip(*(run_onnx(exported, p) for p in parts), strict=True)]
    unit = max(1.0, float(np.abs(expected[1]).max()))
    return float(max(np.abs(found[0] - expected[0]).max(),
                     np.abs(found[1] - expected[1]).max() / unit))  # fmt: skip
