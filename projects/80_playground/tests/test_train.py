"""Training without a window, and what evaluates, enlarges and exports its results."""

import json

import numpy as np
import onnxruntime
import pytest

from playground import train as training
from playground.config import AddNoiseConfig, EvaluateConfig, ExportConfig, TrainConfig
from playground.data import read_samples, write_samples
from playground.evaluate import add_noise, evaluate, newest_model, probabilities, scores
from playground.export import export_model
from playground.insight import Neighbours, confusion, weight_pictures, why_not
from playground.net import Net, load_net, save_net
from trainloop import LabError
from trainloop.paths import runs_dir
from trainloop.testing import assert_resume_is_exact


@pytest.fixture
def data(drawn, tmp_path) -> str:
    write_samples(tmp_path / "my.npz", drawn)
    return str(tmp_path / "my.npz")


def test_drawings_are_learned_and_the_best_net_is_kept(data, curves, capsys):
    found = training.train(TrainConfig(data=data, epochs=20, batch_size=20))
    assert found["test/accuracy"] >= 0.9
    assert capsys.readouterr().out.count("epoch") == 20
    folder = runs_dir() / "playground/latest"
    for name in ("model.npz", "weights.png", "confusion.png", "curves.png"):
        assert (folder / name).is_file()
    losses = [
        json.loads(line)["loss"]
        for line in (folder / "metrics.jsonl").read_text().splitlines()
        if "loss" in json.loads(line)
    ]
    assert np.mean(losses[-10:]) < 0.2 * np.mean(losses[:5])
    assert newest_model().parent.resolve() == folder.resolve()


def test_stopped_and_resumed_it_ends_as_if_left_alone(data, tmp_path, monkeypatch):
    # Steps 14, 28, ... are epochs' ends, where a checkpoint is written. Adam has all the state that
    # an optimiser can have here: both moments and the number of steps.
    config = TrainConfig(data=data, steps=40, batch_size=20, optimizer="adam", rotate=15.0)
    assert_resume_is_exact(training.train, config, "playground", 33, tmp_path, monkeypatch)
    models = [tmp_path / name / "playground/latest/model.npz" for name in ("whole", "cut")]
    one, two = map(load_net, models)
    np.testing.assert_array_equal(one.parameters, two.parameters)


def test_evaluation_prints_what_is_right(data, drawn, taught, tmp_path, capsys):
    save_net(tmp_path / "model.npz", taught)
    out = tmp_path / "confusion.png"
    found = evaluate(EvaluateConfig(model=str(tmp_path / "model.npz"), data=data, out=out))
    p = taught.probabilities((drawn.images / 255).astype(np.float32))
    assert found["accuracy"] == pytest.approx((p.argmax(1) == drawn.labels).mean())
    assert found["nll"] == pytest.approx(-np.log(p[np.arange(400), drawn.labels]).mean(), rel=1e-4)
    assert out.is_file()
    assert "400 images" in capsys.readouterr().out


def test_noisy_copies_stand_beside_their_drawings(data, drawn, tmp_path):
    out = tmp_path / "noisy.npz"
    add_noise(AddNoiseConfig(data=tmp_path / "my.npz", out=out, copies=3))
    samples = read_samples(out)
    assert len(samples.labels) == 1600
    np.testing.assert_array_equal(samples.images[::4], drawn.images)
    np.testing.assert_array_equal(samples.labels, np.repeat(drawn.labels, 4))
    assert not np.array_equal(samples.images[1::4], drawn.images)
    again = tmp_path / "again.npz"
    add_noise(AddNoiseConfig(data=tmp_path / "my.npz", out=again, copies=3))
    np.testing.assert_array_equal(read_samples(again).images, samples.images)


def test_onnx_answers_as_numpy_does(drawn, taught, tmp_path):
    save_net(tmp_path / "model.npz", taught)
    config = ExportConfig(model=str(tmp_path / "model.npz"), out=tmp_path / "net.onnx")
    paths = export_model(config)
    assert [path.name for path in paths] == ["net.onnx", "net_1.onnx"]
    pixels = (drawn.images / 255).astype(np.float32).reshape(-1, 1, 28, 28)
    for path, count in zip(paths, (400, 1), strict=True):
        peer = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (found,) = peer.run(["probs"], {"pixels": pixels[:count]})
        np.testing.assert_allclose(found, probabilities(taught, drawn)[:count], atol=1e-5)


def test_no_run_no_model():
    with pytest.raises(LabError, match="no run has left a model"):
        newest_model()


def test_confusion_counts():
    table = confusion(np.array([3, 3, 5]), np.array([3, 8, 5]))
    assert table.sum() == 3
    assert table[3, 3] == table[3, 8] == table[5, 5] == 1


def test_following_why_not_changes_the_answer(drawn, taught):
    """The heat map must point uphill: ink where it says so makes the other digit likelier."""
    image = drawn.images[7]
    answer, heat = why_not(taught, image, 9)
    assert answer == 7
    assert np.abs(heat).max() == pytest.approx(1)
    step = np.clip(image.reshape(28, 28) / 255 + 0.05 * heat, 0, 1).reshape(1, -1)
    before = taught.probabilities((image[None] / 255).astype(np.float32))[0]
    after = taught.probabilities(step.astype(np.float32))[0]
    assert after[9] / after[7] > before[9] / before[7]
    assert why_not(taught, image, 7)[1].max() == 0


def test_neighbours_and_weights(drawn, taught):
    neighbours = Neighbours(drawn)
    assert neighbours.nearest(drawn.images[42], 3)[0] == (42, 0.0)
    few = Neighbours(drawn.take(slice(0, 2)))
    assert sorted(index for index, _ in few.nearest(drawn.images[42])) == [0, 1]
    found = neighbours.nearest(drawn.images[42], 3)
    assert found[0][1] <= found[1][1] <= found[2][1]
    expected = np.sort(
        np.sqrt((((drawn.images - drawn.images[42].astype(float)) / 255) ** 2).mean(1))
    )
    np.testing.assert_allclose([distance for _, distance in found], expected[:3], atol=1e-6)
    pictures = weight_pictures(taught)
    assert pictures.shape == (16, 28, 28)
    np.testing.assert_allclose(np.abs(pictures).max((1, 2)), 1, atol=1e-6)
    np.testing.assert_allclose(
        pictures[3].reshape(-1) * np.abs(taught.weights[0][:, 3]).max(),
        taught.weights[0][:, 3],
        atol=1e-6,
    )


def test_scores_of_a_net_that_knows_nothing(drawn):
    net = Net()
    net.parameters[:] = 0
    assert scores(net, drawn)["nll"] == pytest.approx(np.log(10), rel=1e-5)
