"""The Python panel: what it shows, without Qt; its file; and with Qt where there is one."""

import ast
import importlib.util
import os
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "scripts/python"))

import results_data as data
from lab_houdini import browse, panel
from lab_houdini.browse import Browser
from lab_houdini.results_plan import FILTER, Filter
from lab_houdini.table import SceneError

PANEL = Path(__file__).parents[1] / "python_panels/ml_learning_lab.pypanel"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return data.imported(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def browser(folder) -> Browser:
    return Browser.open(folder)


def test_filters_choose_by_class_answer_and_confidence(browser) -> None:
    content = data.arrays()
    pred, sure = content["prediction"], content["probabilities"].max(1)
    right = content["label"] == pred
    for which, expected in [
        (Filter(), np.ones(7, bool)),
        (Filter(pred=int(pred[2])), pred == pred[2]),
        (Filter(correct=True), right),
        (Filter(correct=False), ~right),
        (Filter(lowest=0.5), sure >= 0.5),
        (Filter(lowest=0.4, highest=0.7), (sure >= 0.4) & (sure <= 0.7)),
        (Filter(int(pred[0]), bool(right[0]), 0.0, 1.0), (pred == pred[0]) & (right == right[0])),
        (Filter(pred=0, correct=False, lowest=1.0), np.zeros(7, bool)),
    ]:
        assert browser.chosen(which, "as in the file") == np.flatnonzero(expected).tolist()


def test_a_certainty_that_was_rounded_above_one_is_not_lost(browser) -> None:
    """float32 softmaxes sum to 1.0000001 now and then."""
    sure = browse.Prediction(0, 0, 0, (1.0000001, *[0.0] * 9))
    assert browse.passes(sure, Filter())
    assert not browse.passes(sure, Filter(highest=0.99))


def test_orders(browser) -> None:
    sure = data.arrays()["probabilities"].max(1)
    assert browser.chosen(Filter(), "sure first") == np.argsort(-sure, kind="stable").tolist()
    assert browser.chosen(Filter(), "unsure first") == np.argsort(sure, kind="stable").tolist()
    assert set(browse.ORDERS) == {"sure first", "unsure first", "as in the file"}


def test_words(browser) -> None:
    content = data.arrays()
    wrong = int(np.flatnonzero(content["label"] != content["prediction"])[0])
    taken, true = (data.NAMES[content[name][wrong]] for name in ("prediction", "label"))
    sure = content["probabilities"][wrong].max()
    assert browser.line(wrong) == f"#{content['index'][wrong]}  {taken} {sure:.1%}, is {true}"
    assert ", is " not in browser.line(0)
    assert browser.summary([]) == "0 of 7"
    assert browser.summary([0, 1, 2]) == "3 of 7, 66.7% right"


def test_the_rectangle_of_a_row_holds_its_image(browser) -> None:
    """From the top left corner, as Qt counts; the images are asymmetric."""
    pixels = data.atlas()
    for number in range(7):
        left, top, wide, high = browser.cell(number)
        found = pixels[top : top + high, left : left + wide]
        assert np.array_equal(found, data.image_of(number))


def test_bars_are_all_classes_in_their_own_order_with_roles(browser) -> None:
    content = data.arrays()
    for number in range(7):
        bars = browser.bars(number)
        assert [bar.text.rpartition("  ")[0] for bar in bars] == data.NAMES
        assert np.allclose([bar.probability for bar in bars], content["probabilities"][number])
        label, pred = content["label"][number], content["prediction"][number]
        expected = {pred: "right"} if label == pred else {pred: "wrong", label: "label"}
        assert [bar.role for bar in bars] == [expected.get(k, "") for k in range(10)]


def test_the_panel_s_file_is_sound(monkeypatch) -> None:
    """Its XML, and its code: run with stand-ins for the modules that need Houdini."""
    root = ElementTree.parse(PANEL).getroot()
    assert root.tag == "pythonPanelDocument"
    (interface,) = root.iter("interface")
    assert {"name", "label", "icon"} <= set(interface.attrib)
    for menu in ("includeInPaneTabMenu", "includeInToolbarMenu"):
        assert interface.find(menu) is not None
    (script,) = root.iter("script")
    code = compile(script.text, str(PANEL), "exec")
    ast.parse(script.text, feature_version=(3, 10))
    seam, made = ModuleType("lab_houdini.seam"), []
    monkeypatch.setitem(sys.modules, "lab_houdini.seam", seam)
    monkeypatch.setattr(sys.modules["lab_houdini"], "seam", seam, raising=False)
    monkeypatch.setattr(panel, "create", lambda seam: made.append(seam) or "widget")
    names: dict = {}
    exec(code, names)
    assert names["onCreateInterface"]() == "widget"
    assert made == [seam]


def test_the_scene_asks_for_methods_that_the_seam_has() -> None:
    """The panel's seam is any object: types are not checked, names are here."""
    tree = ast.parse(Path(panel.__file__).read_text())
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self.seam"
    }
    seam = ast.parse((Path(panel.__file__).with_name("seam.py")).read_text())
    there = {node.name for node in seam.body if isinstance(node, ast.FunctionDef)}
    assert used and used <= there


def test_without_qt_the_panel_says_so(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SceneError, match="neither PySide6 nor PySide2"):
        panel.create()


class Scene:
    """A seam that notes what the panel asks of it."""

    def __init__(self, there: bool):
        self.there, self.asked = there, []

    def go_to(self, frame: int) -> None:
        self.asked.append(frame)

    def set_snippet(self, path: str, snippet: str) -> bool:
        self.asked.append((path, snippet))
        return self.there


@pytest.fixture
def application(monkeypatch):
    """Qt without a screen."""
    if importlib.util.find_spec("PySide6") is None:
        pytest.skip("NOT RUN: no PySide6 (uv run --with pyside6-essentials pytest ...)")
    monkeypatch.setitem(os.environ, "QT_QPA_PLATFORM", "offscreen")
    from PySide6.QtWidgets import QApplication

    return QApplication.instance() or QApplication([])


def test_the_widgets_show_what_is_chosen(application, folder, browser) -> None:
    scene = Scene(there=True)
    shown = panel.create(scene).panel
    shown.open(folder)
    assert shown.rows.count() == 7 and shown.pred.count() == 11
    assert shown.summary.text() == browser.summary(list(range(7)))
    first = browser.chosen(Filter())[0]
    assert shown.caption.text() == browser.line(first) == shown.rows.item(0).text()
    assert [bar.format() for bar in shown.bars] == [bar.text for bar in browser.bars(first)]
    assert scene.asked == [first + 1]
    picture = shown.picture.pixmap().toImage()
    image, step = data.image_of(first), panel.IMAGE // data.CELL
    grey = [[picture.pixelColor(x * step + 9, y * step + 9).red() for x in range(5)]
            for y in range(5)]  # fmt: skip
    assert np.array_equal(grey, image)
    shown.answer.setCurrentText("wrong")
    wrong = browser.chosen(Filter(correct=False))
    assert shown.chosen == wrong and shown.rows.count() == len(wrong)
    shown.rows.setCurrentRow(1)
    assert scene.asked[-1] == wrong[1] + 1
    shown.filter_scene()
    assert scene.asked[-1] == (FILTER, Filter(correct=False).snippet())
    shown.lowest.setValue(1.0)
    assert shown.summary.text() == "0 of 7" and shown.picture.pixmap().isNull()


def test_the_widgets_say_what_is_missing(application, tmp_path, folder) -> None:
    shown = panel.create(Scene(there=False)).panel
    shown.refresh()
    shown.open(tmp_path / "map2d.json")
    assert "cannot read" in shown.summary.text()
    shown.open(folder)
    shown.filter_scene()
    assert "shelf tool Results" in shown.summary.text()
