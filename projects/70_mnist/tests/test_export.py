"""ONNX files against torch, by onnxruntime."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mnist import export
from mnist.config import ExportConfig
from mnist.export import Probabilities, difference, export_model, run_onnx, to_onnx
from mnist.model import build, save_model
from trainloop import LabError
from trainloop.testing import onnx_export

pytestmark = onnx_export


@pytest.fixture
def model(tmp_path) -> Probabilities:
    """A net with statistics that are not those it began with."""
    torch.manual_seed(0)
    net = build(4)
    for _ in range(20):
        net(torch.rand(16, 1, 28, 28))
    save_model(net, tmp_path / "net.safetensors", 4, 0.2)
    return Probabilities(net.eval())


def test_both_files_answer_as_torch_does(model, digits, tmp_path):
    paths = export_model(
        ExportConfig(model=str(tmp_path / "net.safetensors"), out=tmp_path / "a/net.onnx")
    )
    assert [path.name for path in paths] == ["net.onnx", "net_1.onnx"]
    images = digits.images[:7].float() / 255
    with torch.no_grad():
        expected = model(images).numpy()
    assert np.ptp(expected) > 0.01, "the net says something"
    any_number, single = (path.read_bytes() for path in paths)
    assert run_onnx(any_number, images.numpy()) == pytest.approx(expected, abs=1e-6)
    assert run_onnx(any_number, images[:1].numpy()) == pytest.approx(expected[:1], abs=1e-6)
    assert run_onnx(single, images[3:4].numpy()) == pytest.approx(expected[3:4], abs=1e-6)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
        run_onnx(single, images.numpy())


def test_what_houdini_reads(model):
    for fixed, count in ((False, "N"), (True, 1)):
        graph = onnx.load_model_from_string(to_onnx(model, fixed))
        assert graph.opset_import[0].version == 17
        described = {}
        for value in (*graph.graph.input, *graph.graph.output):
            tensor = value.type.tensor_type
            assert tensor.elem_type == onnx.TensorProto.FLOAT
            described[value.name] = [d.dim_param or d.dim_value for d in tensor.shape.dim]
        assert described == {"images": [count, 1, 28, 28], "probabilities": [count, 10]}
        assert "Dropout" not in {node.op_type for node in graph.graph.node}


def test_a_wrong_file_is_not_written(model, tmp_path, monkeypatch):
    right = to_onnx
    monkeypatch.setattr(export, "to_onnx", lambda net, fixed: right(Probabilities(build(4)), fixed))
    assert difference(model, right(model, True), True) < 1e-6
    with pytest.raises(LabError, match="would differ from torch"):
        export_model(
            ExportConfig(model=str(tmp_path / "net.safetensors"), out=tmp_path / "wrong.onnx")
        )
    assert not list(tmp_path.glob("*.onnx"))


def test_the_name_must_be_an_onnx_files():
    from pathlib import Path

    with pytest.raises(LabError, match=r"--out must end in \.onnx"):
        ExportConfig(out=Path("digits.pt"))
