"""Files against torch: ONNX by onnxruntime, safetensors by a network built from it alone."""

import json

import numpy as np
import onnx
import pytest

from diffusion import export
from diffusion.config import ExportConfig
from diffusion.export import difference, export_model, run_onnx, to_onnx, to_safetensors
from trainloop import LabError
from trainloop.testing import onnx_export

pytestmark = onnx_export


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 8, 8), (2,)])
def test_both_files_answer_as_torch_does(shape, make_trained):
    trained = make_trained(shape, widths=(8, 16, 24), classes=10 if len(shape) == 3 else 0)
    for content, answer in (
        (to_onnx(trained), run_onnx), (to_safetensors(trained), export.run_safetensors)
    ):  # fmt: skip
        assert difference(trained, content, answer) < 1e-5


def test_any_number_of_images_and_what_the_file_says(make_trained):
    content = to_onnx(make_trained(prediction="v", schedule="cosine"))
    x = np.random.default_rng(0).normal(size=(5, 1, 8, 8)).astype(np.float32)
    t, label = np.array([1, 2, 3, 40, 50]), np.array([0, 9, 10, 3, 3])
    whole = run_onnx(content, x, t, label)
    assert whole.shape == x.shape
    assert run_onnx(content, x[3:4], t[3:4], label[3:4]) == pytest.approx(whole[3:4], abs=1e-5)
    model = onnx.load_model_from_string(content)
    said = {prop.key: prop.value for prop in model.metadata_props}
    assert (said["prediction"], said["schedule"], said["T"]) == ("v", "cosine", "50")
    assert json.loads(said["shape"]) == [1, 8, 8]


def test_a_wrong_file_is_not_written(make_trained, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "load_trained", lambda *_: make_trained())
    monkeypatch.setattr(export, "run_onnx", lambda *asked: np.full_like(asked[1], np.nan))
    with pytest.raises(LabError, match="would differ from torch"):
        export_model(ExportConfig(out=tmp_path / "net.onnx"))
    assert not list(tmp_path.iterdir())
