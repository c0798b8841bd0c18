"""Small classifiers as .onnx files: a sound one, and ways to break it."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, CLASSES, WIDTH = 5, 10, 6


def weights(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Of the embedding and of the logits. No pixel is like another, so a flip would show."""
    random = np.random.default_rng(seed)
    shapes = (SIDE * SIDE, WIDTH), (WIDTH, CLASSES)
    first, second = (random.normal(0, 1, shape).astype(np.float32) for shape in shapes)
    return first, second


def model(
    batch: int | str = 1,
    *,
    opset: int = 17,
    ir_version: int = 8,
    outputs: tuple[str, ...] = ("probs", "embedding"),
    kind: int = TensorProto.FLOAT,
    image: tuple | None = None,
    last: str = "Softmax",
    embedding: tuple | None = None,
    domain: str = "",
) -> onnx.ModelProto:
    """Flatten, two products of matrices, softmax; arguments break it."""
    first, second = weights()
    store = np.float16 if kind == TensorProto.FLOAT16 else np.float32
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "first"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "second"], ["logits"], domain=domain),
        helper.make_node(last, ["logits"], ["probs"]),
    ]
    shapes = {"probs": (batch, CLASSES), "embedding": embedding or (batch, WIDTH)}
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", kind, image or (batch, 1, SIDE, SIDE))],
        [helper.make_tensor_value_info(name, kind, shapes[name]) for name in outputs],
        [
            numpy_helper.from_array(first.astype(store), "first"),
            numpy_helper.from_array(second.astype(store), "second"),
        ],
    )
    imports = [helper.make_opsetid("", opset)]
    if domain:
        imports.append(helper.make_opsetid(domain, 1))
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


def save(folder: Path, *arguments, **changed) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model(*arguments, **changed).SerializeToString())
    return path
