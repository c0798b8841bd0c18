"""`predict`: pictures in, a line each out; and the models that it takes."""

import json
import re
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mnist.config import PredictConfig
from mnist.evaluate import log_probabilities
from mnist.model import build, load_model, models_dir, save_model
from mnist.predict import predict_pictures
from trainloop import LabError, load_checkpoint


@pytest.fixture
def trained(tiny, learned, tmp_path):
    """A run to be spoilt at will; the digits to test."""
    shutil.copytree(learned, tmp_path / "runs", symlinks=True)
    return tiny


def test_the_newest_run_reads_pictures(trained, tmp_path, capsys):
    paths = []
    for index in range(10):
        paths.append(tmp_path / f"{index}.png")
        ink = Image.fromarray(trained.images[index, 0].numpy()).resize((140, 140))
        Image.eval(ink, lambda value: 255 - value).save(paths[-1])
    capsys.readouterr()
    guesses = predict_pictures(PredictConfig(tuple(paths), show=True))
    lines = capsys.readouterr().out.splitlines()
    right = 0
    for path, line, guess, label in zip(
        paths, lines, guesses, trained.labels.tolist(), strict=False
    ):
        assert re.fullmatch(rf"{path}: (\d \(\d+\.\d%\)(, )?){{3}}", line)
        assert [p for _, p in guess] == sorted((p for _, p in guess), reverse=True)
        right += guess[0][0] == label
    assert right >= 8
    picture = tmp_path / "runs/mnist-predict/predict.png"
    assert lines[-1] == f"picture: {picture}"
    with Image.open(picture) as drawn:
        assert drawn.height > 10 * 150


def test_what_cannot_be_read_is_told_after_the_others(trained, tmp_path, capsys):
    good, bad, blank = (tmp_path / f"{name}.png" for name in ("good", "bad", "blank"))
    Image.fromarray(trained.images[0, 0].numpy()).save(good)
    bad.write_text("nothing")
    Image.new("L", (30, 30)).save(blank)
    capsys.readouterr()
    with pytest.raises(LabError, match=r"bad\.png is no readable .*; .*blank\.png shows no digit"):
        predict_pictures(PredictConfig((bad, good, blank)))
    assert capsys.readouterr().out.startswith(f"{good}: ")


def test_a_kept_model_comes_before_a_run(trained):
    assert load_model()[1][0].out_channels == 8
    save_model(build(4), models_dir() / "mnist_cnn_01.safetensors", 4, 0.1)
    model = load_model()
    assert model[1][0].out_channels == 4
    assert model[9].p == 0.1
    assert not model.training


def test_weights_come_back_to_the_bit(trained, tmp_path):
    path = tmp_path / "runs/mnist/latest/last.pt"
    from_run = load_model(path)
    average = load_checkpoint(path, "mnist")["states"]["ema"]
    assert all(torch.equal(v, average[k]) for k, v in from_run.state_dict().items())
    save_model(from_run, tmp_path / "kept.safetensors", 8, 0.2)
    kept = load_model(tmp_path / "kept.safetensors")
    images = trained.images[:50]
    assert torch.equal(log_probabilities(kept, images), log_probabilities(from_run, images))


def test_bad_models_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_RUNS", str(tmp_path / "runs"))
    damaged, foreign, other = (tmp_path / f"{n}.safetensors" for n in ("cut", "foreign", "other"))
    damaged.write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    save_file({"a": torch.zeros(2)}, foreign)
    save_file({"a": torch.zeros(2)}, other, {"width": "4", "dropout": "0.2"})
    for path, said in {
        tmp_path / "none.safetensors": "no model at",
        damaged: "is damaged or no safetensors",
        foreign: "was not written by `models`",
        other: "does not fit this program's model",
        "": "no run of mnist has a checkpoint",
    }.items():
        with pytest.raises(LabError, match=said) as caught:
            load_model(path)
        assert "\n" not in str(caught.value)


def test_a_study_holds_no_model(tmp_path, monkeypatch):
    from mnist.config import StudyConfig
    from trainloop import Run

    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    run = Run.open("mnist", StudyConfig(), "synthetic-study")
    run.resume()
    run.save(0)
    assert json.loads((run.folder / "config.json").read_text())["command"] == "synthetic-study"
    with pytest.raises(LabError, match="was written by `synthetic-study`"):
        load_model(run.folder / "last.pt")
    run.finish()


def test_no_picture_is_an_error():
    with pytest.raises(LabError, match="at least one picture"):
        PredictConfig(())
