"""The files for Houdini: ONNX against torch, predictions by the rules of their reader."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from fashion_mnist import export as module
from fashion_mnist.config import ExportConfig
from fashion_mnist.data import CLASSES
from fashion_mnist.export import Exported, difference, export, run_onnx, to_onnx, write_atlas
from fashion_mnist.model import load_trained
from fashion_mnist.predict import predict
from fashion_mnist.train import train
from trainloop import LabError
from trainloop.testing import onnx_export

pytestmark = onnx_export


@pytest.fixture(scope="session")
def files(splits, learned, tmp_path_factory) -> Path:
    """The folder of an export of 130 images."""
    home = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load", lambda: splits)
        patch.setenv("LAB_RUNS", str(home))
        (path,) = (learned / "fashion-mnist").glob("2*/last.pt")
        export(ExportConfig(model_file=str(path), images=130, out=str(home / "out")))
    return home / "out"


def test_the_predictions_are_the_models(files, tiny, checkpoint):
    trained = load_trained(checkpoint)
    logits, embedding = predict(trained, tiny.images[:130])
    with np.load(files / "predictions.npz", allow_pickle=False) as file:
        found = dict(file)
    expected = (logits / trained.temperature).softmax(1).numpy()
    assert found["probabilities"] == pytest.approx(expected, abs=1e-6)
    assert np.array_equal(found["embedding"], embedding.numpy())
    assert np.array_equal(found["label"], tiny.labels[:130].numpy())
    assert np.array_equal(found["index"], np.arange(130))
    assert np.array_equal(found["prediction"], logits.argmax(1).numpy())
    assert tuple(found["class_names"]) == CLASSES
    summary = json.loads((files.parent / "fashion-mnist/latest/summary.json").read_text())
    assert summary["metrics"]["round_trip"] <= 1e-5
    assert summary["metrics"]["accuracy"] == pytest.approx(
        (found["prediction"] == found["label"]).mean()
    )


def test_the_form_that_houdinis_reader_asks_for(files):
    """From the table in houdini_bridge/results/npz.py, written down here a second time."""
    with np.load(files / "predictions.npz", allow_pickle=False) as file:
        found = {name: (file[name].dtype.kind, file[name].shape) for name in file.files}
        p = file["probabilities"]
    assert found == {
        "version": ("i", ()), "index": ("i", (130,)), "label": ("i", (130,)),
        "prediction": ("i", (130,)), "probabilities": ("f", (130, 10)),
        "embedding": ("f", (130, 64)), "map2d": ("f", (130, 2)), "map3d": ("f", (130, 3)),
        "class_names": ("U", (10,)), "atlas_columns": ("i", ()), "atlas_cell": ("i", ()),
    }  # fmt: skip
    assert np.abs(p.sum(1) - 1).max() < 1e-5


def test_the_atlas_holds_image_i_in_cell_i_from_the_top_left(files, tiny):
    with np.load(files / "predictions.npz") as file:
        columns, cell = int(file["atlas_columns"]), int(file["atlas_cell"])
    with Image.open(files / "atlas.png") as image:
        assert image.mode == "L"
        atlas = np.array(image)
    assert (columns, cell) == (12, 28)
    assert atlas.shape == (11 * 28, 12 * 28)
    for index in (0, 1, 12, 129):
        row, column = divmod(index, columns)
        seen = atlas[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
        assert np.array_equal(seen, tiny.images[index, 0].numpy()), "upright: row 0 is the top"
    assert (atlas[-28:, 10 * 28 :] == 0).all(), "cells beyond the last image are black"


def test_an_atlas_of_a_lopsided_image(tmp_path):
    image = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    image[0, 0, 0, 3] = 200
    write_atlas(tmp_path / "atlas.png", image, 2)
    with Image.open(tmp_path / "atlas.png") as atlas:
        assert atlas.size == (56, 28)
        assert atlas.getpixel((3, 0)) == 200


def test_both_onnx_files_answer_as_torch_does(files, tiny, checkpoint):
    trained = load_trained(checkpoint)
    images = tiny.images[:7].float() / 255
    with torch.no_grad():
        expected = [part.numpy() for part in Exported(trained)(images)]
    assert np.ptp(expected[0]) > 0.5, "the net says something"
    any_number, single = ((files / name).read_bytes() for name in ("model.onnx", "model_1.onnx"))
    for part, theirs in zip(run_onnx(any_number, images.numpy()), expected, strict=True):
        assert part == pytest.approx(theirs, abs=1e-5)
    for part, theirs in zip(run_onnx(single, images[3:4].numpy()), expected, strict=True):
        assert part == pytest.approx(theirs[3:4], abs=1e-5)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
        run_onnx(single, images.numpy())
    assert sorted(path.name for path in files.iterdir()) == [
        "atlas.png", "model.onnx", "model_1.onnx", "predictions.npz"
    ]  # fmt: skip


def test_what_houdini_reads_of_them(files):
    for name, count in (("model.onnx", "N"), ("model_1.onnx", 1)):
        graph = onnx.load(files / name)
        onnx.checker.check_model(graph, full_check=True)
        assert graph.opset_import[0].version == 17
        described = {}
        for value in (*graph.graph.input, *graph.graph.output):
            tensor = value.type.tensor_type
            assert tensor.elem_type == onnx.TensorProto.FLOAT
            described[value.name] = [d.dim_param or d.dim_value for d in tensor.shape.dim]
        assert described == {
            "images": [count, 1, 28, 28], "probs": [count, 10], "embedding": [count, 64],
        }  # fmt: skip
        assert not {"Dropout", "BatchNormalization"} & {node.op_type for node in graph.graph.node}


def test_a_mirrored_model_is_mirrored_in_the_file_too(quick, tmp_path, short):
    train(replace(short, steps=30, flip_test=True))
    trained = load_trained()
    assert trained.flip_test
    export(ExportConfig(images=100, maps="pca", out=str(tmp_path / "out")))
    pixels = quick.images[:5].float().numpy() / 255
    file = (tmp_path / "out/model.onnx").read_bytes()
    as_is, mirrored = (run_onnx(file, x)[0] for x in (pixels, pixels[..., ::-1].copy()))
    assert as_is == pytest.approx(mirrored, abs=1e-5)
    with np.load(tmp_path / "out/predictions.npz") as npz:
        assert npz["probabilities"][:5] == pytest.approx(as_is, abs=1e-5)


def test_a_wrong_file_is_not_written(quick, checkpoint, tmp_path, monkeypatch):
    right = module.to_onnx

    def other(exported, fixed):
        exported.model.head.bias[0] += 0.01
        try:
            return right(exported, fixed)
        finally:
            exported.model.head.bias[0] -= 0.01

    trained = Exported(load_trained(checkpoint))
    probe = quick.images[:8].float() / 255
    assert difference(trained, to_onnx(trained, True), probe, True) < 1e-5
    monkeypatch.setattr(module, "to_onnx", other)
    out = tmp_path / "out"
    with pytest.raises(LabError, match="would differ from torch"):
        export(ExportConfig(model_file=checkpoint, images=100, maps="pca", out=str(out)))
    assert not list(out.glob("*.onnx"))
