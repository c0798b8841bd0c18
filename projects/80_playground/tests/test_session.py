"""The app without its window: draw, label, train, predict, save, load, recover."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from playground.config import PlayConfig
from playground.data import read_samples, write_samples
from playground.net import Net, load_net, save_net
from playground.session import DATA, DATA_JSON, MODEL, Session, first_net
from playground.trainer import MOST_POINTS, Curves, Trainer
from trainloop import LabError


def settle(session: Session) -> None:
    """Wait for what is read in the background."""
    end = time.monotonic() + 20
    while session._importing and time.monotonic() < end:
        session.tick(0)
        time.sleep(0.01)
    assert not session._importing


def test_draw_label_train_predict_save_and_reload(session, draw, tmp_path):
    for round in range(6):
        for digit in (0, 1, 7):
            draw(session, digit, rng=np.random.default_rng(10 * round + digit))
            assert session.label(digit).label == digit
            assert session.look() is None, "the canvas is empty again"
    session.start()
    while session.trainer.step < 200:
        session.tick(5)
    session.pause()
    for digit in (0, 1, 7):
        draw(session, digit)
        assert session.look().answer == digit
        session.clear()
    session.save_data()
    session.save_model()
    session.close()

    again = Session(tmp_path / "home")
    assert len(again.samples) == 18
    again.load(again.home / MODEL)
    draw(again, 7)
    assert again.look().answer == 7
    for name in (DATA, DATA_JSON):
        np.testing.assert_array_equal(
            read_samples(again.home / name).images, again.samples.labelled().images
        )
    again.close()


def test_undo_takes_back_one_stroke(session, draw):
    draw(session, 4)
    draw(session, 1)
    assert len(session.strokes) == 3
    session.undo()
    four = session.canvas.copy()
    session.clear()
    assert not session.canvas.any()
    draw(session, 4)
    np.testing.assert_allclose(session.canvas, four, atol=1e-6)
    session.undo()
    session.undo()
    session.undo()
    assert not session.canvas.any()


def test_an_empty_canvas_gets_no_label(session):
    assert session.label(3) is None
    assert len(session.samples) == 0
    assert "Draw a digit first" in session.message


def test_the_guess_follows_drawing_training_and_the_switch(session, draw, taught):
    session.trainer.use(taught)
    draw(session, 1, size=90, at=(10, 150))
    right = session.look()
    assert right.answer == 1
    assert session.look() is right, "and nothing is computed twice"
    session.centred = False
    raw = session.look()
    np.testing.assert_allclose(raw.probabilities, right.without, atol=1e-5)
    assert not np.array_equal(raw.image, right.image)


def test_digits_of_others_are_mixed_in(session):
    session.digits = frozenset({2, 3})
    session.import_mnist(40)
    settle(session)
    assert [count for count in session.samples.counts() if count] == [20, 20]
    session.start()
    assert set(session.trainer.train_set.labels.tolist()) == {2, 3}
    assert len(session.trainer.held_out.labels) == 8


def test_no_mnist_is_a_message(session, monkeypatch):
    def gone(split):
        raise LabError("no source gave mnist\n  1. offline")

    monkeypatch.setattr("playground.session.mnist", gone)
    session.import_mnist()
    settle(session)
    assert session.message == "MNIST could not be read: no source gave mnist"


def test_held_out_samples_are_never_trained_on(session, drawn):
    session.samples.add_all(drawn, "file")
    session.tick()
    train = {row.tobytes() for row in session.trainer.train_set.images}
    held = {row.tobytes() for row in session.trainer.held_out.images}
    assert len(train) == 320
    assert not train & held


def test_only_so_many_samples_of_the_chosen_digits(session, drawn):
    session.samples.add_all(drawn, "file")
    session.digits, session.limit = frozenset({0, 1, 2}), 50
    session.tick()
    counts = np.bincount(session.trainer.train_set.labels)
    assert counts.sum() == 50
    assert len(counts) == 3
    assert counts.min() > 8


def test_files_that_are_dropped_are_told_apart(session, drawn, taught, tmp_path):
    write_samples(tmp_path / "theirs.json", drawn.take(slice(30)))
    save_net(tmp_path / "theirs.npz", taught)
    session.load(tmp_path / "theirs.json")
    assert len(session.samples) == 30
    session.load(tmp_path / "theirs.npz")
    np.testing.assert_array_equal(session.trainer.net.parameters, taught.parameters)
    for name in ("theirs.png", "gone.npz"):
        session.load(tmp_path / name)
        assert name in session.message
    assert len(session.samples) == 30


def test_training_on_nothing_says_so(session):
    session.start()
    assert not session.trainer.running
    assert "Nothing to train on" in session.message
    session.step()
    assert session.trainer.step == 0


def test_a_loss_that_is_no_number_stops_and_is_mended(session, drawn):
    session.samples.add_all(drawn, "file")
    session.trainer.choose("gradient-descent", 0.1)
    session.start()
    while session.trainer.step < 100:
        session.tick(5)
    good = session.trainer.curves.accuracy[-1]
    session.trainer.lr = 1e30
    for _ in range(50):
        session.tick(5)
    assert not session.trainer.running
    assert "learning rate is too high" in session.message
    assert np.isfinite(session.trainer.net.parameters).all()
    session.trainer.lr = 0.05
    session.start()
    session.tick(20)
    while session.trainer.step % session.trainer.curves.every:
        session.step()
    assert session.trainer.curves.accuracy[-1] >= good - 0.1


def test_training_gives_the_frame_back_in_time(drawn, monkeypatch):
    """By a clock that a step takes 2 ms of: how long frames really take is `measure`'s to say."""
    trainer = Trainer()
    trainer.study(drawn, drawn.take(slice(50)))
    trainer.running = True
    clock = SimpleNamespace(perf_counter=lambda: 0.002 * trainer.step)
    monkeypatch.setattr("playground.trainer.time", clock)
    assert [trainer.work(5) for _ in range(3)] == [3, 3, 3]  # the third step crosses 5 ms
    assert trainer.work(0) == 1
    trainer.running = False
    assert trainer.work(5) == 0


def test_a_point_is_the_mean_of_the_steps_since_the_last_one(drawn, monkeypatch):
    trainer, losses = Trainer(), []
    trainer.study(drawn, drawn.take(slice(50)))
    learn = trainer.net.loss_and_gradient

    def note(images, labels):
        losses.append(learn(images, labels))
        return losses[-1]

    monkeypatch.setattr(trainer.net, "loss_and_gradient", note)
    for _ in range(20):
        trainer.one_step()
    loss, right = np.array(losses[10:]).mean(0)
    assert trainer.curves.steps == [10, 20]
    assert trainer.curves.loss[1] == pytest.approx(loss)
    assert trainer.curves.accuracy[1] == pytest.approx(right / 64)


def test_curves_keep_within_bounds():
    curves = Curves()
    for step in range(1, 20 * MOST_POINTS):
        if step % curves.every == 0:
            curves.add(step, 1.0, 0.5, 1.0, 0.5)
    assert len(curves.steps) == len(curves.held_loss) <= MOST_POINTS
    assert curves.steps == sorted(curves.steps)
    assert curves.steps[-1] > 19 * MOST_POINTS - 2 * curves.every


def test_other_layers_and_methods(session, drawn):
    session.samples.add_all(drawn, "file")
    session.trainer.renew(())
    session.trainer.choose("adam")
    session.trainer.batch_size = 8
    session.start()
    while session.trainer.step < 300:
        session.tick(5)
    assert session.trainer.net.sizes == (784, 10)
    assert session.trainer.curves.held_accuracy[-1] > 0.9


def test_which_model_comes_first(tmp_path, monkeypatch):
    runs = tmp_path / "runs"
    monkeypatch.setenv("LAB_RUNS", str(runs))
    home = tmp_path / "home"
    config = PlayConfig(home=home)
    assert first_net(config) is None
    (runs / "playground/1").mkdir(parents=True)
    save_net(runs / "playground/1" / MODEL, Net((784, 3, 10)))
    assert first_net(config).sizes == (784, 3, 10)
    home.mkdir()
    save_net(home / MODEL, Net((784, 4, 10)))
    assert first_net(config).sizes == (784, 4, 10)
    save_net(tmp_path / "named.npz", Net((784, 10)))
    assert first_net(PlayConfig(home=home, model=str(tmp_path / "named.npz"))).sizes == (784, 10)
    with pytest.raises(LabError, match="no file"):
        first_net(PlayConfig(home=home, model="gone.npz"))
    assert load_net(home / MODEL).sizes == (784, 4, 10)
