"""The net as ONNX, for whatever reads that: from grey pixels to probabilities, in one file."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from playground.config import ExportConfig
from playground.evaluate import newest_model
from playground.net import CLASSES, Net, load_net
from trainloop import atomic_write

OPSET, IR = 17, 8  # old enough for whatever may read it


def export_model(config: ExportConfig) -> list[Path]:
    """Write two files, one for any number of images and one for a single image; returns both."""
    source = Path(config.model) if config.model else newest_model()
    net = load_net(source)
    single = config.out.with_stem(config.out.stem + "_1")
    for path, rows in ((config.out, "N"), (single, 1)):
        content = as_onnx(net, rows).SerializeToString()
        atomic_write(path, lambda file, content=content: file.write(content))
        print(f"wrote {path}: pixels [{rows}, 1, 28, 28] of 0..1 to probs [{rows}, 10]")
    return [config.out, single]


def as_onnx(net: Net, rows: int | str) -> onnx.ModelProto:
    """The graph; ink is 1, paper 0, prepared as `preprocess.prepare` does."""
    nodes = [helper.make_node("Flatten", ["pixels"], ["x0"], axis=1)]
    initial, last = [], len(net.weights) - 1
    for layer, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
        for name, array in ((f"w{layer}", weight), (f"b{layer}", bias)):
            initial.append(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name))
        nodes.append(
            helper.make_node("Gemm", [f"x{layer}", f"w{layer}", f"b{layer}"], [f"z{layer}"])
        )
        if layer == last:
            nodes.append(helper.make_node("Softmax", [f"z{layer}"], ["probs"], axis=1))
        else:
            nodes.append(helper.make_node("Relu", [f"z{layer}"], [f"x{layer + 1}"]))
    graph = helper.make_graph(
        nodes,
        "playground",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [rows, 1, 28, 28])],
        [helper.make_tensor_value_info("probs", TensorProto.FLOAT, [rows, CLASSES])],
        initial,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.checker.check_model(model, full_check=True)
    return model
