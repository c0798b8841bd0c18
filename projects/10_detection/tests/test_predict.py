"""A checkpoint at work: pictures of any kind in, boxes in their pixels out, or one clear line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision import ops

from detection.config import EvaluateConfig, PredictConfig, TrainConfig
from detection.predict import draw_found, evaluate_checkpoint, load_detector, predict_images
from detection.train import train
from trainloop.checkpoint import load_checkpoint, save_checkpoint
from trainloop.errors import LabError

CPU = torch.device("cpu")


def write_coco(folder: Path, categories: list[str]) -> Path:
    """Three splits of four noisy 40 x 30 photos with one box each; the test set has one class."""
    random = np.random.default_rng(0)
    for split in ("train", "valid", "test"):
        kinds = 1 if split == "test" else 2
        (folder / split).mkdir(parents=True)
        for i in range(4):
            pixels = random.integers(0, 256, (30, 40, 3), np.uint8)
            Image.fromarray(pixels).save(folder / split / f"{i}.png")
        coco = {
            "images": [{"id": i, "file_name": f"{i}.png"} for i in range(4)],
            "annotations": [
                {"image_id": i, "category_id": i % kinds, "bbox": [4 + i, 6, 18, 12]}
                for i in range(4)
            ],
            "categories": [{"id": i, "name": name} for i, name in enumerate(categories)],
        }
        (folder / split / "_annotations.coco.json").write_text(json.dumps(coco))
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Data of two kinds, and in `runs` a run of two steps on the first."""
    home = tmp_path_factory.mktemp("home")
    write_coco(home / "cups", ["cup", "pen"])
    write_coco(home / "screws", ["screw", "nut"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_RUNS", str(home / "runs"))
        train(TrainConfig(data=str(home / "cups"), image_size=32, widths=(4, 4, 8, 8), steps=2,
                          batch_size=2, device="cpu"))  # fmt: skip
    return home


@pytest.fixture(autouse=True)
def runs(home, monkeypatch) -> None:
    monkeypatch.setenv("LAB_RUNS", str(home / "runs"))


def noisy(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth noise, which survives JPEG and resizing."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def predict(out: Path, *images: Path, **options) -> dict[str, dict]:
    """What is found, by the picture's name; every point counts unless told otherwise."""
    options = {"score": 0.0, "device": "cpu", **options}
    found = predict_images(PredictConfig(images=images, out=out, **options))
    assert json.loads((out / "predictions.json").read_text()) == found
    return {Path(one["image"]).name: one for one in found}


# --- pictures ----------------------------------------------------------------------------------


def test_pictures_of_many_kinds(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    noisy(200, 50).save(tmp_path / "wide.png")
    noisy(90, 60).save(tmp_path / "portrait.jpg", exif=exif)
    noisy(70, 70).convert("L").save(tmp_path / "grey.png")
    noisy(64, 80).convert("RGBA").save(tmp_path / "clear.png")
    sizes = {"wide.png": (200, 50), "portrait.jpg": (60, 90), "grey.png": (70, 70),
             "clear.png": (64, 80)}  # fmt: skip
    found = predict(tmp_path / "out", *(tmp_path / name for name in sizes))
    assert list(found) == list(sizes)
    for name, (width, height) in sizes.items():
        one = found[name]
        assert (one["width"], one["height"]) == (width, height) and len(one["objects"]) > 3
        boxes = np.array([o["box_xyxy"] for o in one["objects"]])
        assert (boxes >= 0).all() and (boxes <= [width, height] * 2).all()
        assert (boxes[:, 2:] >= boxes[:, :2]).all()
        # 20 points all over the picture, each with a box around it, cover most of it.
        assert (boxes.max(0)[2:] > [0.9 * width, 0.9 * height]).all()
        scores = [o["score"] for o in one["objects"]]
        assert scores == sorted(scores, reverse=True) and 0 < scores[0] < 1
        assert {o["label"] for o in one["objects"]} <= {"cup", "pen"}
        with Image.open(tmp_path / f"out/{Path(name).stem}_boxes.png") as drawn:
            assert drawn.width / drawn.height == pytest.approx(width / height, rel=0.01)


def test_a_turned_photo_and_its_upright_copy_have_the_same_objects(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    noisy(90, 60).save(tmp_path / "turned.jpg", exif=exif)
    with Image.open(tmp_path / "turned.jpg") as photo:
        ImageOps.exif_transpose(photo).save(tmp_path / "upright.png")
    found = predict(tmp_path / "out", tmp_path / "turned.jpg", tmp_path / "upright.png")
    assert found["turned.jpg"]["objects"] == found["upright.png"]["objects"]
    drawn = [tmp_path / f"out/{name}_boxes.png" for name in ("turned", "upright")]
    assert drawn[0].read_bytes() == drawn[1].read_bytes()


def test_boxes_are_in_the_pixels_of_the_picture(tmp_path):
    """The same picture at 1 and at 5 times the detector's size: boxes 5 times as large."""
    small = noisy(32, 24)
    small.save(tmp_path / "small.png")
    small.resize((160, 120), Image.Resampling.NEAREST).save(tmp_path / "large.png")
    square = Image.new("RGB", (32, 32), (114, 114, 114))
    square.paste(small, (0, 4))
    square.save(tmp_path / "square.png")
    found = predict(tmp_path / "out", *sorted(tmp_path.glob("*.png")))
    boxes = {name: np.array([o["box_xyxy"] for o in one["objects"]]) for name, one in found.items()}
    shifted = (boxes["square.png"] - [0, 4, 0, 4]).clip(0, [32, 24] * 2)
    np.testing.assert_allclose(boxes["small.png"], shifted, atol=0.11)
    large = [torch.from_numpy(b) for b in (boxes["large.png"], 5 * boxes["small.png"])]
    assert ops.box_iou(*large).amax(1).min() > 0.9  # equal scores may come in another order


@pytest.mark.parametrize(("score", "count"), [(0.005, 40), (0.02, 0)])
def test_score_is_respected(tmp_path, score, count):
    """After two steps all 20 points still give each of the two classes 0.01."""
    noisy(40, 40).save(tmp_path / "a.png")
    found = predict(tmp_path / "out", tmp_path / "a.png", score=score)
    assert len(found["a.png"]["objects"]) == count


def test_pictures_of_one_name_do_not_overwrite_each_other(tmp_path):
    paths = [tmp_path / "x/1.png", tmp_path / "y/1.png", tmp_path / "y/1.jpg"]
    for i, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        noisy(40, 30 + 10 * i).save(path)
    predict_images(PredictConfig(images=tuple(paths), out=tmp_path / "out", device="cpu"))
    drawn = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert drawn == ["1_boxes.png", "1_boxes_2.png", "1_boxes_3.png"]


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1)])
def test_pictures_as_thin_as_a_line(tmp_path, size):
    """Boxes in the picture, and a drawing that is neither gigabytes large nor without pixels."""
    noisy(*size).save(tmp_path / "thin.png")
    inches = draw_found(tmp_path / "thin.png", [], []).get_size_inches()  # before it is rendered
    assert inches.min() >= 0.5 and inches.max() <= 8
    found = predict(tmp_path / "out", tmp_path / "thin.png")["thin.png"]
    boxes = np.array([o["box_xyxy"] for o in found["objects"]])
    assert (boxes >= 0).all() and (boxes <= [*size, *size]).all()


def test_unreadable_pictures_are_named_after_the_others_are_done(tmp_path):
    noisy(40, 30).save(tmp_path / "good.png")
    noisy(40, 30).save(tmp_path / "also good.png")
    (tmp_path / "text.png").write_text("hello")
    names = ["good.png", "text.png", "absent.png", "also good.png"]
    with pytest.raises(LabError) as error:
        predict(tmp_path / "out", *(tmp_path / name for name in names))
    message = str(error.value)
    assert "text.png" in message and "absent.png" in message and "\n" not in message
    assert "good.png" not in message
    written = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [Path(one["image"]).name for one in written] == ["good.png", "also good.png"]
    drawn = sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert drawn == ["also good_boxes.png", "good_boxes.png"]


# --- checkpoints -------------------------------------------------------------------------------


def test_the_detector_is_the_average_of_the_newest_run(home):
    model, checkpoint = load_detector(None, CPU)
    assert not model.training and checkpoint["notes"]["classes"] == ["cup", "pen"]
    states = load_checkpoint(home / "runs/detection/latest/last.pt")["states"]
    average = {k: v for k, v in states["ema"].items() if k != "updates"}
    assert all(torch.equal(v, average[k]) for k, v in model.state_dict().items())
    assert any(not torch.equal(v, states["model"][k]) for k, v in average.items())


def test_evaluate_prints_and_draws(tmp_path, capsys):
    out = tmp_path / "new/folder/a.png"
    scores = evaluate_checkpoint(EvaluateConfig(split="test", device="cpu", out=out))
    assert list(scores) == ["ap", "ap50", "ap75", "ap_cup", "ap_pen"]
    assert [name for name, value in scores.items() if value is None] == ["ap_pen"]
    with Image.open(out) as picture:
        assert min(picture.size) > 100
    printed = capsys.readouterr().out
    assert all(f"test/{name} " in printed for name in scores) and str(out) in printed


def test_evaluate_on_other_classes(home, tmp_path):
    config = EvaluateConfig(data=str(home / "screws"), device="cpu", out=tmp_path / "a.png")
    with pytest.raises(LabError, match="knows cup, pen, the data screw, nut"):
        evaluate_checkpoint(config)
    assert not list(tmp_path.iterdir())


def test_checkpoints_of_others_and_of_nobody(home, tmp_path, monkeypatch):
    saved = load_checkpoint(home / "runs/detection/latest/last.pt")
    save_checkpoint(tmp_path / "foreign.pt", {**saved, "project": "warmup"})
    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    for path, message in (
        (tmp_path / "foreign.pt", "belongs to project 'warmup'"),
        (tmp_path / "absent.pt", "no checkpoint at"),
        (None, "no run of detection has a checkpoint"),
    ):
        for config in (
            EvaluateConfig(checkpoint=path, device="cpu", out=tmp_path / "a.png"),
            PredictConfig(images=(Path("a.png"),), checkpoint=path, device="cpu", out=tmp_path),
        ):
            run = evaluate_checkpoint if isinstance(config, EvaluateConfig) else predict_images
            with pytest.raises(LabError, match=message):
                run(config)


def test_the_command_ends_with_code_2_and_one_line(home, tmp_path):
    """As the script `predict` calls it; once, since starting Python takes seconds."""
    command = "from detection.cli import predict; predict()"
    done = subprocess.run(
        [sys.executable, "-c", command, "no such.png", "--out", tmp_path, "--device", "cpu"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: no readable picture: no such.png")
