"""Each lesson can be done, by doing what it says, and is not done before."""

import numpy as np
import pytest

from playground.augment import Augment
from playground.lessons import LESSONS
from playground.preprocess import prepare, rasterise
from playground.session import DONE, Session


def train(session: Session, steps: int) -> None:
    session.start()
    end = session.trainer.step + steps
    while session.trainer.running and session.trainer.step < end:
        session.tick(3)
    session.pause()


def begin(session: Session, number: int) -> None:
    session.go_to_lesson(number - 1)
    session.tick()
    assert number - 1 not in session.done


def is_done(session: Session, number: int) -> bool:
    session.tick()
    return number - 1 in session.done


def test_there_are_eight_and_none_is_done_at_first(session):
    assert len(LESSONS) == 8
    for number in range(1, 9):
        begin(session, number)
        assert 0 <= LESSONS[number - 1].progress(session).share < 1


def test_1_first_data_set(session, draw, drawn):
    begin(session, 1)
    session.samples.add_all(drawn, "mnist")  # of others: does not count
    assert not is_done(session, 1)
    for number in range(5):
        for digit in (0, 1):
            assert not is_done(session, 1)
            draw(session, digit, rng=np.random.default_rng(number))
            session.label(digit)
    assert is_done(session, 1)
    assert "Lesson 1 done" in session.message


def test_2_it_never_saw_a_7(session, draw, drawn):
    session.samples.add_all(drawn, "file")
    begin(session, 2)
    session.digits = frozenset({0, 1})
    session.trainer.renew()
    train(session, 100)
    assert not is_done(session, 2)
    draw(session, 7)
    session.label(7)
    assert is_done(session, 2)


def test_2_asks_for_a_net_that_knows_nothing_else(session, draw, drawn):
    session.samples.add_all(drawn, "file")
    train(session, 60)  # on all digits
    begin(session, 2)
    session.digits = frozenset({0, 1})
    train(session, 100)
    draw(session, 7)
    session.label(7)
    assert not is_done(session, 2)


def test_3_more_handwriting(session, drawn):
    begin(session, 3)
    session.samples.add_all(drawn, "mnist")
    train(session, 150)
    assert not is_done(session, 3), "400 are not 500"
    session.samples.add_all(drawn.take(slice(100)), "mnist")
    train(session, 150)
    assert is_done(session, 3)


def test_4_small_in_a_corner(session, draw, taught):
    session.trainer.use(taught)
    begin(session, 4)
    draw(session, 7, size=60, at=(8, 8))
    session.label(7)
    assert not is_done(session, 4), "it was centred"
    session.centred = False
    session.pen = 10
    for digit in (7, 4, 0, 1):
        for at in ((8, 8), (200, 8), (8, 200)):
            draw(session, digit, size=60, at=at)
            session.label(digit)
    assert is_done(session, 4)


def test_5_hard_to_fool(session, drawn):
    session.samples.add_all(drawn, "file")
    train(session, 150)
    begin(session, 5)
    train(session, 100)
    assert not is_done(session, 5), "more of the same is not what it asks for"
    session.trainer.augment = Augment(rotate=35.0)
    for _ in range(8):
        train(session, 100)
        if is_done(session, 5):
            break
    assert is_done(session, 5)


def test_6_by_heart(session, drawn):
    rng = np.random.default_rng(0)
    noisy = drawn.images.copy()  # hard enough for 20 samples not to be enough
    noisy = np.where(rng.random(noisy.shape) < 0.3, rng.integers(0, 256, noisy.shape), noisy)
    session.samples.add_all(drawn._replace(images=noisy.astype(np.uint8)), "file")
    begin(session, 6)
    train(session, 100)
    assert not is_done(session, 6)
    session.limit = 20
    session.trainer.renew()
    train(session, 200)
    assert is_done(session, 6)


@pytest.mark.parametrize("rate", [10.0, 1e30])
def test_7_too_fast(session, drawn, rate):
    session.samples.add_all(drawn, "file")
    begin(session, 7)
    train(session, 60)
    assert not is_done(session, 7)
    session.trainer.lr = rate
    train(session, 100)
    assert is_done(session, 7)


def test_8_change_its_mind(session, draw, taught):
    session.trainer.use(taught)
    begin(session, 8)
    draw(session, 1)
    before = session.look().answer
    session.ask_why_not(before)
    draw(session, 1)
    assert not is_done(session, 8)
    session.clear()
    draw(session, 1)
    session.ask_why_not(0)
    assert not is_done(session, 8)
    # Ink is added until it is a 0: here all of it at once.
    draw(session, 0)
    if session.look().answer != 0:
        session.pen = 50
        draw(session, 0)
    assert is_done(session, 8) == (session.look().answer == 0)
    assert session.look().answer == 0


def test_what_was_done_is_known_next_time(session, tmp_path):
    session.done = {0, 3}
    session.go_to_lesson(6)
    session.trainer.lr = 2.0
    session.trainer.trouble = "The loss is no number any more"
    session.tick()
    session.close()
    again = Session(tmp_path / "home")
    assert again.done == {0, 3, 6}
    again.close()
    for broken in ("[0, 3", '{"a": 1}', "[[1]]", "[99]"):
        (tmp_path / "home" / DONE).write_text(broken)
        again = Session(tmp_path / "home")
        assert again.done == set()
        again.close()


def test_box_of_the_small_drawing_is_what_lesson_4_calls_small(points):
    from playground.preprocess import Stroke

    small = [Stroke(tuple(stroke), 10) for stroke in points(7, size=60)]
    top, bottom, left, right = prepare(rasterise(small)).box
    assert max(bottom - top, right - left) < 0.45 * 280
