"""The window, driven by events without a screen: every promise of it, and half an hour of use."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pygame
import pytest

from playground.data import write_samples
from playground.lessons import LESSONS
from playground.net import save_net
from playground.panels import PANELS
from playground.session import MODEL, Session
from playground.trainer import MOST_POINTS
from playground.widgets import RED, Kept
from playground.window import CANVAS_RECT, SIZE, Window, open_window

SOAK = 10_800  # frames


@pytest.fixture(scope="module")
def surface():
    yield open_window()
    pygame.quit()


@pytest.fixture
def window(session, surface) -> Window:
    return Window(session, surface)


def mouse(kind: str, x: float, y: float) -> pygame.event.Event:
    kinds = {"down": pygame.MOUSEBUTTONDOWN, "move": pygame.MOUSEMOTION, "up": pygame.MOUSEBUTTONUP}
    return pygame.event.Event(kinds[kind], pos=(round(x), round(y)), button=1, touch=False)


def key(name: str) -> pygame.event.Event:
    return pygame.event.Event(pygame.KEYDOWN, key=pygame.key.key_code(name), mod=0, unicode="")


def finger(kind: str, x: float, y: float) -> pygame.event.Event:
    kinds = {"down": pygame.FINGERDOWN, "move": pygame.FINGERMOTION, "up": pygame.FINGERUP}
    return pygame.event.Event(kinds[kind], x=x / SIZE[0], y=y / SIZE[1], finger_id=1, touch_id=1)


def click(window: Window, x: float, y: float) -> None:
    window.frame([mouse("move", x, y), mouse("down", x, y)])
    window.frame([mouse("up", x, y)])


def strokes(points, digit: int, make=mouse, **how) -> list[pygame.event.Event]:
    """The events of a digit drawn with a mouse or a finger."""
    scale = CANVAS_RECT[2] / 280
    events = []
    for stroke in points(digit, **how):
        place = [(CANVAS_RECT[0] + scale * x, CANVAS_RECT[1] + scale * y) for x, y in stroke]
        events.append(make("down", *place[0]))
        events += [make("move", *one) for one in place[1:]]
        events.append(make("up", *place[-1]))
    return events


def test_draw_label_train_predict_save_and_reload(window, points, surface, tmp_path):
    session = window.session
    for round in range(6):
        for digit in (0, 1, 7):
            events = strokes(points, digit, rng=np.random.default_rng(10 * round + digit))
            for at_once in [[event] for event in events] if round == 0 else [events]:
                window.frame(at_once)
            window.frame([key(str(digit))])
    assert session.samples.counts() == [6, 6, 0, 0, 0, 0, 0, 6, 0, 0]
    click(window, 510, 28)  # Start training
    assert session.trainer.running
    while session.trainer.step < 200:
        window.frame([])
    window.frame([key("space")])
    assert not session.trainer.running
    window.frame(strokes(points, 7))
    assert session.look().answer == 7
    click(window, 760, 28)  # My digits
    click(window, 780, 697)  # Save data
    click(window, 1040, 697)  # Save model
    assert (session.home / MODEL).is_file()
    session.close()

    again = Window(Session(tmp_path / "home"), surface)
    assert len(again.session.samples) == 18
    click(again, 1180, 697)  # Load model
    again.frame(strokes(points, 1))
    assert again.session.look().answer == 1
    click(again, 20 + 40.4 + 15, 570)  # the button of 1
    assert again.session.samples.counts()[1] == 7
    again.session.close()


def test_every_panel_is_drawn_and_no_two_look_alike(window, points, drawn, taught):
    window.session.samples.add_all(drawn, "drawn")
    window.session.trainer.use(taught)
    window.frame(strokes(points, 3))
    seen = set()
    for index in range(len(PANELS)):
        window.frame([key(f"f{index + 1}")])
        window.frame([])
        pixels = pygame.surfarray.array3d(window.ui.surface)
        assert len(np.unique(pixels[::3, ::3] @ [65536, 256, 1])) > 50
        seen.add(pixels[700:, 70:].tobytes())
    assert len(seen) == len(PANELS)


def test_a_finger_draws_once_although_sdl_tells_it_twice(window, points):
    events = []
    for event in strokes(points, 7, finger):
        events.append(event)
        twin = {pygame.FINGERDOWN: "down", pygame.FINGERMOTION: "move", pygame.FINGERUP: "up"}
        double = mouse(twin[event.type], event.x * SIZE[0], event.y * SIZE[1])
        events.append(pygame.event.Event(double.type, {**double.dict, "touch": True}))
    window.frame(events)
    assert len(window.session.strokes) == 1
    assert len(window.session.strokes[0].points) == 3


def test_undo_clear_pen_and_the_switch(window, points):
    session = window.session
    window.frame(strokes(points, 4))
    window.frame([key("z")])
    assert len(session.strokes) == 1
    click(window, 150, 500)  # Clear
    assert not session.canvas.any()
    window.frame([mouse("down", 350, 507)])
    window.frame([mouse("move", 364, 507), mouse("up", 364, 507)])
    assert session.pen > 45
    click(window, 100, 621)
    assert not session.centred


def test_a_stroke_that_begins_elsewhere_is_none(window):
    window.frame([mouse("down", 900, 300), mouse("move", 200, 300), mouse("up", 250, 300)])
    assert not window.session.canvas.any()


def test_marked_samples_are_deleted(window, drawn):
    window.session.samples.add_all(drawn, "drawn")
    newest = [sample.number for sample in window.session.samples if sample.label == 2][-1]
    click(window, 700 + 90 + 20, 72 + 46 + 2 * 51 + 20)
    assert window.marked == {newest}
    assert window.ui.surface.get_at((700 + 90, 72 + 46 + 2 * 51 + 20))[:3] == RED
    window.frame([key("delete")])
    assert newest not in {sample.number for sample in window.session.samples}
    assert len(window.session.samples) == 399
    assert window.marked == set()


def test_what_changes_seldom_is_drawn_when_its_key_changes(window):
    ui, drawn = window.ui, []

    def draw() -> None:
        drawn.append(len(drawn))
        ui.surface.fill((drawn[-1], 0, 0), (5, 5, 10, 10))

    for key, red in (("a", 0), ("a", 0), ("b", 1), ("a", 2)):
        ui.surface.fill((9, 9, 9))
        ui.still("here", (5, 5, 10, 10), key, draw)
        assert ui.surface.get_at((14, 14))[:3] == (red, 0, 0)
        assert ui.surface.get_at((15, 15))[:3] == (9, 9, 9)
    assert len(drawn) == 3


def test_of_what_is_kept_the_oldest_goes():
    kept, made = Kept(2), []
    for key in "aabacab":
        assert kept.get(key, lambda key=key: made.append(key) or key.upper()) == key.upper()
    assert made == [*"abcab"]
    assert len(kept) == 2


def test_all_settings_can_be_clicked(window, drawn):
    session = window.session
    session.samples.add_all(drawn, "file")
    window.frame([key("f2")])
    left, top = 700 + 110, 72 + 434
    click(window, left + 20, top + 10)  # no hidden layers
    click(window, left + 400, top + 42 + 10)  # adam
    click(window, left + 20, top + 84 + 10)  # batches of 8
    click(window, left + 110, top + 126 + 10)  # without the digit 2
    click(window, left + 400, top + 168 + 10)  # 20 samples
    trainer = session.trainer
    assert (trainer.layers, trainer.method, trainer.batch_size) == ((), "adam", 8)
    assert session.digits == frozenset(range(10)) - {2}
    assert session.limit == 20
    for x in (900, 1000):  # the slider of the learning rate, then that of shifts
        click(window, x, 72 + 228 + 29)
    assert 0.04 < trainer.lr < 0.06
    click(window, 900, 72 + 276 + 29)
    assert trainer.augment.shift > 1
    window.frame([key("s")])
    assert trainer.step == 1
    window.frame([key("n")])
    assert trainer.step == 0


def test_a_lesson_is_chosen_and_why_not_is_asked(window, points, taught):
    window.session.trainer.use(taught)
    window.frame([key("f5")])
    click(window, 900, 72 + 46 + 3 * 44 + 10)
    assert window.session.lesson == 3
    window.frame([*strokes(points, 7), key("f3")])
    click(window, 716 + 25 * 2 + 10, 72 + 336 + 34)
    assert window.session.target == 2


def test_dropped_files_and_closing(window, drawn, taught, tmp_path):
    write_samples(tmp_path / "theirs.npz", drawn)
    save_net(tmp_path / "model.npz", taught)
    names = [tmp_path / "theirs.npz", tmp_path / "model.npz"]
    assert window.frame([pygame.event.Event(pygame.DROPFILE, file=str(name)) for name in names])
    assert len(window.session.samples) == 400
    np.testing.assert_array_equal(window.session.trainer.net.parameters, taught.parameters)
    assert not window.frame([pygame.event.Event(pygame.QUIT)])


def test_a_tip_appears_when_the_mouse_rests(window):
    window.frame([mouse("move", 60, 500)], now=0.0)
    before = pygame.surfarray.array3d(window.ui.surface)
    window.frame([], now=1.0)
    after = pygame.surfarray.array3d(window.ui.surface)
    assert (before != after).any(2)[:, 520:560].sum() > 500


def texts_that_cross(window: Window) -> list[tuple[str, str]]:
    """Pairs of texts of one frame that lie over one another, and texts that leave the window."""
    drawn: list[tuple[str, pygame.Rect]] = []
    text = window.ui.text

    def note(x, y, words, size=15, colour=(32, 42, 54), bold=False, align=0.0):
        width = text(x, y, words, size, colour, bold, align)
        if words.strip():
            high = window.ui.font(size, bold).get_height()
            place = pygame.Rect(round(x - align * width), round(y), width, high)
            drawn.append((words, place.inflate(-2, -6)))
        return width

    window.ui.text = note
    window.ui._still.clear()  # copied pixels write no text
    window.frame([])
    del window.ui.text
    bounds = pygame.Rect(0, 0, *SIZE)
    found = [(a, "the edge") for a, place in drawn if not bounds.contains(place)]
    for index, (a, place) in enumerate(drawn):
        found += [(a, b) for b, other in drawn[:index] if place.colliderect(other)]
    return found


@pytest.mark.parametrize("full", [False, True])
def test_no_text_lies_over_another(window, points, drawn, taught, full):
    if full:
        window.session.samples.add_all(drawn, "drawn")
        window.session.trainer.use(taught)
        window.session.start()
        for _ in range(30):
            window.frame([])
        window.session.pause()
        window.frame(strokes(points, 8))
    for panel in range(len(PANELS)):
        window.panel = panel
        for lesson in range(len(LESSONS) if panel == 4 else 1):
            window.session.go_to_lesson(lesson)
            window.session.message = "A message of the usual length about what has just happened."
            assert texts_that_cross(window) == []


def test_half_an_hour_at_sixty_frames_compressed():
    """A tenth of it, in a process of its own, as fast as it goes: what a window keeps must not grow
    with time. All 108,000 frames: `tests/soak.py`."""
    command = [sys.executable, Path(__file__).with_name("soak.py"), str(SOAK)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(printed.splitlines()[-1])
    _, first, _, last = found["states"]  # at half time everything was seen, and at the end
    labelled = last["samples"] - first["samples"]
    assert labelled > SOAK / 1200, "somebody drew and labelled all the while"
    assert found["trained"] > 0.9 * SOAK, "and the net trained"
    assert last["memory_kb"] - first["memory_kb"] < 3_000 + 8 * labelled
    assert last["objects"] - first["objects"] < 500 + 10 * labelled
    assert last["labellings"] <= 50
    assert last["points"] <= MOST_POINTS
    assert (last["open_files"], last["threads"]) == (first["open_files"], first["threads"])
    assert last["journal_kb"] - first["journal_kb"] < 2 * labelled + 1
    for kind, (begin, *_, end) in found["ms"].items():
        assert end < 2 * begin + 0.2, (
            f"{kind} took {begin:.2f} ms at first and {end:.2f} at the end"
        )


def test_the_canvas_is_drawn_while_the_net_trains(window, drawn):
    """Each frame trains, and shows the stroke that came with it."""
    window.session.samples.add_all(drawn, "mnist")
    window.session.start()
    left, top, width, height = CANVAS_RECT
    window.frame([])
    assert sum(window.ui.surface.get_at((left + width // 2, top + height // 2))[:3]) > 600  # paper
    for frame in range(30):
        place = (left + width // 2, top + 60 + 8 * frame)
        window.frame([mouse("down" if frame == 0 else "move", *place)])
        assert sum(window.ui.surface.get_at(place)[:3]) < 200  # ink
        assert window.session.trainer.step > frame


def test_play_needs_no_torch():
    code = (
        "import sys, playground.window, playground.web, playground.cli\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
        "assert 'matplotlib' not in sys.modules, 'matplotlib was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
