"""An exported file finds what the model finds, explains itself and is checked first."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from detection import export
from detection.backbone import SmallBackbone, make_backbone
from detection.config import ExportConfig, TrainConfig
from detection.data import load
from detection.export import (
    OnnxDetector,
    check_onnx,
    difference,
    export_checkpoint,
    export_onnx,
    milliseconds,
)
from detection.letterbox import from_letterbox, read_letterboxed
from detection.model import Detections, Detector
from trainloop.checkpoint import save_checkpoint
from trainloop.errors import LabError
from trainloop.testing import onnx_export

pytestmark = onnx_export

NAMES = ("cup", "pen", "Löffel")
OPTIONS = {"score": 0.25, "iou": 0.4, "most": 10}  # nobody's defaults


def noise(count: int, seed: int = 0, size: int = 64) -> Tensor:
    """Pictures of coarse noise, of which a detector makes more than of fine noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return coarse.repeat_interleave(size // 8, 2).repeat_interleave(size // 8, 3)


def eager_model(classes: int = 3, backbone: str = "small", **options) -> Detector:
    """Sure of some things: probabilities all over 0..1, boxes that overlap, lived-in BatchNorms."""
    torch.manual_seed(0)
    body = SmallBackbone((8, 8, 16, 16)) if backbone == "small" else make_backbone(backbone)
    model = Detector(classes, body, **options)
    nn.init.normal_(model.class_out.weight, std=0.25)
    nn.init.constant_(model.class_out.bias, -4.0)
    nn.init.normal_(model.box_out.weight, std=0.1)
    nn.init.constant_(model.box_out.bias, 1.0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(noise(8, seed=1))
    return model.eval()


@pytest.fixture(scope="module")
def model() -> Detector:
    return eager_model()


@pytest.fixture(scope="module")
def path(model, tmp_path_factory) -> Path:
    """The model's file."""
    path = tmp_path_factory.mktemp("export") / "detector.onnx"
    export_onnx(model, path, 64, NAMES, **OPTIONS)
    return path


def apart(exported: OnnxDetector, model: Detector, image: Tensor, **options) -> float:
    """Largest difference of scores, or of boxes in pixels."""
    return difference(exported.detect(image), model.detect(image, **options)[0], image_size=1)


# --- the same detections -----------------------------------------------------------------------


def test_the_file_finds_what_the_model_finds(model, path):
    exported, images = OnnxDetector(path), noise(20)
    assert max(apart(exported, model, image, **OPTIONS) for image in images.split(1)) < 1e-4
    expected = model.detect(images, **OPTIONS)
    assert len({len(one.scores) for one in expected}) > 5
    for other in ({"score": 0.1}, {"iou": 0.6}, {"most": 9}):  # each of the options matters here
        changed = model.detect(images, **{**OPTIONS, **other})
        assert any(map(lambda *pair: difference(*pair, 1) > 1, changed, expected)), other


def test_nothing_found_and_more_than_wanted(model, path):
    images, exported = noise(20), OnnxDetector(path)
    wanted = [len(one.scores) for one in model.detect(images, score=0.25, iou=0.4, most=99)]
    assert max(wanted) > 10
    assert [len(exported.detect(one).scores) for one in images.split(1)] == np.clip(
        wanted, 0, 10
    ).tolist()
    nothing = exported.detect(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert [tuple(part.shape) for part in nothing] == [(0, 4), (0,), (0,)]
    assert [part.dtype for part in nothing] == [torch.float32, torch.float32, torch.int64]


@pytest.mark.parametrize("kind", ["centerness", "resnet18"])
def test_so_do_the_files_of_other_models_which_are_left_as_they_were(tmp_path, kind):
    model = eager_model(**({"centerness": True} if kind == "centerness" else {"backbone": kind}))
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export_onnx(model, tmp_path / "a.onnx", 64, NAMES, score=0.02)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    exported = OnnxDetector(tmp_path / "a.onnx")
    for image in noise(4).split(1):
        assert len(exported.detect(image).scores) > 10
        assert apart(exported, model.eval(), image, score=0.02) < 1e-3  # resnet18: 1e-4


def test_the_first_thousand_candidates_and_low_scores(tmp_path):
    """1,600 candidates, of which 1,000 may go into NMS; most have scores of less than 0.001.

    onnxruntime's Sigmoid is exact to 3e-8 only: near scores would change places.
    """
    model = eager_model(classes=20)
    nn.init.constant_(model.class_out.bias, -12.0)
    options = {"score": 0.0, "iou": 1.0, "most": 2000}
    export_onnx(model, tmp_path / "a.onnx", 64, [str(label) for label in range(20)], **options)
    exported = OnnxDetector(tmp_path / "a.onnx")
    (expected,) = model.detect(noise(1), **options)
    assert len(expected.scores) == 1000 and expected.scores[-1] < 1e-5
    assert apart(exported, model, noise(1), **options) < 1e-4
    scores = exported.detect(noise(1)).scores
    torch.testing.assert_close(scores, expected.scores, rtol=1e-4, atol=0)


def test_equal_scores_keep_the_order_of_points_and_classes(tmp_path):
    """A model that is as sure of everything everywhere."""
    model = eager_model()
    nn.init.zeros_(model.class_out.weight)
    export_onnx(model, tmp_path / "a.onnx", 64, NAMES, score=0.01)
    found = OnnxDetector(tmp_path / "a.onnx").detect(noise(1))
    (expected,) = model.detect(noise(1), score=0.01)
    assert len(found.scores) > 30 and found.scores.unique().numel() == 1
    assert torch.equal(found.labels, expected.labels)
    torch.testing.assert_close(found.boxes, expected.boxes, atol=1e-4, rtol=0)


# --- a file that explains itself -----------------------------------------------------------------


def test_input_outputs_and_metadata(path):
    file = onnx.load(path)
    about = {entry.key: entry.value for entry in file.metadata_props}
    assert json.loads(about["classes"]) == list(NAMES)
    assert (about["image_size"], about["score"], about["iou"], about["most"]) == (
        "64", "0.25", "0.4", "10")  # fmt: skip
    assert "(114, 114, 114)" in about["letterbox"] and "xyxy" in about["outputs"]

    def declared(values) -> list[tuple]:
        types = [(value.name, value.type.tensor_type) for value in values]
        return [(name, onnx.TensorProto.DataType.Name(t.elem_type), *(
            d.dim_param or d.dim_value for d in t.shape.dim)) for name, t in types]  # fmt: skip

    assert declared(file.graph.input) == [("images", "UINT8", 1, 3, 64, 64)]
    assert declared(file.graph.output) == [
        ("boxes", "FLOAT", "n", 4), ("scores", "FLOAT", "n"), ("labels", "INT64", "n")]  # fmt: skip


WITHOUT_TORCH = """
import json, sys
import numpy as np, onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession(sys.argv[1])
about = session.get_modelmeta().custom_metadata_map
size = int(about["image_size"])
photo = Image.open(sys.argv[2]).convert("RGB")
inside = tuple(max(round(side * size / max(photo.size)), 1) for side in photo.size)
corner = tuple((size - side) // 2 for side in inside)
square = Image.new("RGB", (size, size), (114, 114, 114))
square.paste(photo.resize(inside), corner)
images = np.asarray(square).transpose(2, 0, 1)[None]
boxes, scores, labels = session.run(None, {"images": images})
boxes = (boxes - corner * 2) * (np.array(photo.size * 2) / (inside * 2))
names = [json.loads(about["classes"])[label] for label in labels]
assert not {"torch", "detection"} & set(sys.modules)
print(json.dumps([boxes.tolist(), scores.tolist(), names]))
"""


def test_a_photo_goes_through_it_without_torch(model, path, tmp_path):
    """By what the metadata says alone; the same as the project's own way with a photo."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    photo = tmp_path / "photo.png"
    Image.fromarray(pixels).resize((90, 61), Image.Resampling.NEAREST).save(photo)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, path, photo],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    boxes, scores, names = json.loads(done.stdout)
    square, size = read_letterboxed(photo, 64)
    (expected,) = model.detect(torch.from_numpy(square.copy())[None], **OPTIONS)
    assert len(scores) > 3 and names == [NAMES[label] for label in expected.labels]
    np.testing.assert_allclose(scores, expected.scores, atol=1e-5)
    boxes = np.clip(boxes, 0, size * 2)
    np.testing.assert_allclose(boxes, from_letterbox(expected.boxes.numpy(), size, 64), atol=1e-3)


# --- checking ------------------------------------------------------------------------------------


def test_a_right_file_passes_and_the_largest_difference_is_told(model, path):
    images = noise(8)
    exported = OnnxDetector(path)
    each = [
        difference(exported.detect(image), model.detect(image, **OPTIONS)[0], image_size=64)
        for image in images.split(1)
    ]
    assert check_onnx(model, path, images) == max(each) < 1e-5
    assert max(each) > 0  # onnxruntime sums in another order


@pytest.mark.parametrize("name", ["class_out.bias", "scales", "backbone.body.0.0.weight"])
def test_weights_that_changed_after_the_export_are_found_out(path, name):
    changed = eager_model()
    changed.get_parameter(name).data.mul_(1.01)
    with pytest.raises(LabError, match=r"differs from torch by .* in image \d, .* export it again"):
        check_onnx(changed, path, noise(4))


def test_other_sizes_files_and_numbers_of_classes_are_one_clear_line(model, path, tmp_path):
    whole = path.read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    foreign = onnx.load(path)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    for file, size, message in (
        (path, 32, "takes images of 64x64, not of 32x32"),
        (tmp_path / "cut.onnx", 64, "cut.onnx cannot be read"),
        (tmp_path / "absent.onnx", 64, "absent.onnx cannot be read"),
        (tmp_path / "foreign.onnx", 64, "not written by `export`"),
    ):
        with pytest.raises(LabError, match=message) as error:
            check_onnx(model, file, noise(1, size=size))
        assert "\n" not in str(error.value)
    with pytest.raises(LabError, match="knows 3 classes, 2 are named"):
        export_onnx(model, tmp_path / "a.onnx", 64, NAMES[:2])
    assert not (tmp_path / "a.onnx").exists()


def found(*rows: tuple) -> Detections:
    """Detections of rows of (box, score, label)."""
    boxes, scores, labels = zip(*rows, strict=True)
    return Detections(torch.tensor(boxes), torch.tensor(scores), torch.tensor(labels))


A, B = (1.0, 2.0, 30.0, 40.0), (5.0, 6.0, 7.0, 8.0)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ([(A, 0.9, 0), (B, 0.5, 1)], 0.0),
        ([(A, 0.9, 0), ((5.0, 6.0, 7.0, 24.0), 0.5, 1)], 0.25),  # 16 of 64 pixels
        ([(A, 0.9, 0), (B, 0.375, 1)], 0.125),
        ([(A, 0.9, 0), (B, 0.5, 2)], 1.0),
        ([(A, 0.9, 0)], torch.inf),
        ([(A, 0.5, 1), (A, 0.9, 1)], 1.0),
        ([(B, 0.5, 1), (A, 0.9, 0)], 0.4),  # not best first
        ([(A, 0.9, 0), (A, 0.5, 1)], 0.5),  # each there has its like here, B none there
    ],
)
def test_the_difference_is_that_of_box_score_or_label(other, expected):
    here, other = found((A, 0.9, 0), (B, 0.5, 1)), found(*other)
    for pair in ((here, other), (other, here)):
        assert difference(*pair, image_size=64) == pytest.approx(expected)


def test_equal_scores_may_change_places_and_nothing_equals_nothing():
    here, there = found((A, 0.5, 0), (B, 0.5, 1)), found((B, 0.5, 1), (A, 0.5, 0))
    assert difference(here, there, image_size=64) == 0
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert difference(nothing, nothing, image_size=64) == 0


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def config(model, tmp_path) -> ExportConfig:
    """A checkpoint as `train` writes it, and the photos that it names."""
    data = tmp_path / "cups"
    for split in ("train", "valid"):
        (data / split).mkdir(parents=True)
        coco = {
            "images": [{"id": i, "file_name": f"{i}.png"} for i in range(4)],
            "annotations": [{"image_id": 0, "category_id": i, "bbox": [4, 6, 18, 12]}
                            for i in range(len(NAMES))],
            "categories": [{"id": i, "name": name} for i, name in enumerate(NAMES)],
        }  # fmt: skip
        (data / split / "_annotations.coco.json").write_text(json.dumps(coco))
        for i, image in enumerate(noise(4)):
            pixels = image.permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(data / split / f"{i}.png")
    options = asdict(TrainConfig(data=str(data), image_size=64, widths=(8, 8, 16, 16)))
    save_checkpoint(tmp_path / "best.pt", {
        "project": "detection", "command": "train", "config": options,
        "notes": {"classes": list(NAMES)}, "states": {"ema": {**model.state_dict(), "updates": 0}},
    })  # fmt: skip
    return ExportConfig(checkpoint=tmp_path / "best.pt", out=tmp_path / "new/folder/cups.onnx")


def test_the_command_writes_checks_and_tells(config, model, capsys):
    facts = export_checkpoint(config)
    assert [path.name for path in config.out.parent.iterdir()] == ["cups.onnx"]
    exported = OnnxDetector(config.out)
    assert exported.classes == list(NAMES) and exported.image_size == 64
    assert exported.options == {"score": 0.05, "iou": 0.6, "most": 100}
    assert facts["difference"] < 1e-4 and facts["megabytes"] == config.out.stat().st_size / 1e6
    images = load(str(config.checkpoint.with_name("cups")), "val", 64).images
    assert facts["boxes"] == sum(len(one.scores) for one in model.detect(images, score=0.05)) > 0
    assert facts["torch_ms"] > 0 and facts["onnxruntime_ms"] > 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and lines[0] == f"file: {config.out}"
    assert f"{facts['boxes']} boxes in {len(images)} val images" in lines[2]


def test_a_file_that_fails_its_check_replaces_nothing(config, path, monkeypatch):
    config.out.parent.mkdir(parents=True)
    config.out.write_text("the old one")
    other = path.read_bytes()  # of the same weights, but only its check would tell
    monkeypatch.setattr(
        export, "export_onnx", lambda _, to, *rest, **options: to.write_bytes(other)
    )
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(LabError, match="differs from torch"):
        export_checkpoint(config)
    assert [path.name for path in config.out.parent.iterdir()] == ["cups.onnx"]
    assert config.out.read_text() == "the old one"


def test_checkpoints_that_are_none_and_folders_as_files(config, tmp_path):
    (tmp_path / "damaged.pt").write_bytes(config.checkpoint.read_bytes()[:5000])
    save_checkpoint(tmp_path / "foreign.pt", {"project": "warmup", "command": "train"})
    for change, message in (
        ({"checkpoint": tmp_path / "damaged.pt"}, "cut short or damaged"),
        ({"checkpoint": tmp_path / "foreign.pt"}, "belongs to project 'warmup'"),
        ({"checkpoint": tmp_path / "absent.pt"}, "no checkpoint at"),
        ({"out": tmp_path}, "is a folder: name a file with --out"),
    ):
        with pytest.raises(LabError, match=message):
            export_checkpoint(replace(config, **change))
    assert not config.out.parent.exists()


def test_timing_gives_torch_its_threads_back():
    threads, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        assert milliseconds(lambda image: seen.append(torch.get_num_threads()), noise(3)) < 100
        assert set(seen) == {1} and len(seen) == 4 and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
