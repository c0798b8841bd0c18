"""The reader of .onnx files: against the onnx package, and what it refuses."""

import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "scripts/python"))

import onnx_models
from lab_houdini import onnx_file
from lab_houdini.table import SceneError

from houdini_bridge.results.cli import check_onnx
from trainloop.testing import refused


@pytest.mark.parametrize(("batch", "found"), [(1, 1), ("N", 0), ("images", 0)])
def test_a_sound_model_is_taken(tmp_path, batch, found):
    path = onnx_models.save(tmp_path, batch)
    onnx.checker.check_model(str(path), full_check=True)
    assert onnx_file.classifier(path) == onnx_file.Classifier(path, found, 5, 5, 10, 6)


def test_it_reads_what_the_onnx_package_reads(tmp_path):
    path = onnx_models.save(tmp_path, "N")
    ours, theirs = onnx_file.read(path), onnx.load(path)
    assert ours.ir_version == theirs.ir_version
    assert ours.opsets == {entry.domain: entry.version for entry in theirs.opset_import}
    assert ours.weights == {w.name: w.data_type for w in theirs.graph.initializer}
    for found, true in (
        *zip(ours.inputs, theirs.graph.input, strict=True),
        *zip(ours.outputs, theirs.graph.output, strict=True),
    ):
        sides = true.type.tensor_type.shape.dim
        assert found.name == true.name
        assert found.shape == tuple(side.dim_param or side.dim_value for side in sides)
    for found, true in zip(ours.nodes, theirs.graph.node, strict=True):
        assert (found.kind, found.inputs, found.outputs) == (
            true.op_type,
            tuple(true.input),
            tuple(true.output),
        )


REFUSED = {
    "opset 21": ({"opset": 21}, "its opset is 21, not 7 to 19"),
    "IR 11": ({"ir_version": 11}, "its IR version is 11"),
    "batch 4": ({"batch": 4}, "takes 4 images at once"),
    "one output": ({"outputs": ("probs",)}, "its outputs are probs, not probs, embedding"),
    "swapped": ({"outputs": ("embedding", "probs")}, "in this order"),
    "double": ({"kind": TensorProto.DOUBLE}, "image float64 .* is no float32"),
    "half": ({"kind": TensorProto.FLOAT16}, "the weights first are float16"),
    "integers": ({"kind": TensorProto.UINT8}, "image uint8 .* is no float32"),
    "colour": ({"image": (1, 3, 5, 5)}, r"takes image float32 \[1, 3, 5, 5\], not grey"),
    "flat": ({"image": (1, 25)}, r"\[1, 25\], not grey"),
    "two axes": ({"batch": "N", "image": ("N", 1, "H", 5)}, "side H is dynamic"),
    "nameless": ({"image": (1, 1, None, 5)}, r"side \? is dynamic"),
    "N and M": ({"batch": "N", "image": ("M", 1, 5, 5)}, "first sides differ"),
    "N and 1": ({"batch": 1, "image": ("N", 1, 5, 5)}, "first sides differ"),
    "logits": ({"last": "Identity"}, "come from MatMul, not from Softmax"),
    "3-D": ({"embedding": (1, 2, 3)}, r"embedding float32 \[1, 2, 3\] is not \[N, values\]"),
    "foreign": ({"domain": "com.microsoft"}, "operators of com.microsoft"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_would_not_work_in_houdini_is_refused_in_one_line(tmp_path, name):
    changed, words = REFUSED[name]
    path = onnx_models.save(tmp_path, **changed)
    with pytest.raises(SceneError, match=words) as caught:
        onnx_file.classifier(path)
    said = str(caught.value)
    assert said.startswith(str(path)) and "\n" not in said


def test_weights_in_another_file_are_refused(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(
        onnx_models.model(),
        path,
        save_as_external_data=True,
        location="model.data",
        size_threshold=0,
    )
    with pytest.raises(SceneError, match="weights first lie in another file"):
        onnx_file.classifier(path)


def test_a_sequence_is_refused_and_a_listed_weight_is_no_input(tmp_path):
    changed = onnx_models.model()
    listed = helper.make_tensor_value_info("first", TensorProto.FLOAT, (25, 6))
    changed.graph.input.append(listed)  # as files before IR 4 do
    path = tmp_path / "model.onnx"
    path.write_bytes(changed.SerializeToString())
    assert onnx_file.classifier(path).height == 5
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, (1,)))
    changed.graph.input[0].type.CopyFrom(kind)
    path.write_bytes(changed.SerializeToString())
    with pytest.raises(SceneError, match="image no tensor"):
        onnx_file.classifier(path)


def test_a_softmax_is_found_behind_what_changes_nothing(tmp_path):
    changed = onnx_models.model()
    changed.graph.node[-1].output[0] = "softmax"
    changed.graph.node.append(helper.make_node("Identity", ["softmax"], ["probs"]))
    path = tmp_path / "model.onnx"
    path.write_bytes(changed.SerializeToString())
    assert onnx_file.classifier(path).classes == 10


def test_every_cut_and_text_is_refused_and_nothing_else_is_raised(tmp_path):
    path = onnx_models.save(tmp_path)
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(SceneError):
            onnx_file.classifier(path)
    for text in (b"no onnx at all", b"\xff" * 40, b"PK\x03\x04 a zip"):
        path.write_bytes(text)
        with pytest.raises(SceneError, match="is no ONNX file"):
            onnx_file.classifier(path)
    with pytest.raises(SceneError, match="cannot read the model"):
        onnx_file.classifier(tmp_path / "missing.onnx")


def test_the_command_says_what_a_model_takes(tmp_path, capsys, monkeypatch):
    path = onnx_models.save(tmp_path, "N")
    monkeypatch.setattr(sys, "argv", ["check-onnx", str(path)])
    check_onnx()
    said = capsys.readouterr().out
    assert "any number of images of 5 x 5 -> probs [10], embedding [6]" in said
    path.write_text("text")
    said = refused(check_onnx, [str(path)], monkeypatch, capsys)
    assert said.count("\n") == 1 and "is no ONNX file" in said


def test_it_runs_as_a_file_in_a_bare_python(tmp_path):
    """Hython's way: none of the lab's packages, nor onnx."""
    good = onnx_models.save(tmp_path)
    command = [sys.executable, "-I", onnx_file.__file__, str(good)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "one image of 5 x 5" in done.stdout
    done = subprocess.run([*command, "missing"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: cannot read")
