"""The Python panel "ML Learning Lab Results": browse an import beside its scene.

Qt is imported where the panel is made: Houdini 20.5 has PySide2, 21 has PySide6 [3p], and nothing
else here needs it. Clicking a row moves the timeline, on which /obj/classify shows its image.
"""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from lab_houdini.browse import ORDERS, Browser
from lab_houdini.results_plan import FILTER, Filter, page_of
from lab_houdini.table import SceneError

COLOURS = {"right": "#3a9a4b", "wrong": "#c0392b", "label": "#c79a2b", "": "#6b6b6b"}
STYLE = "QProgressBar { text-align: center; } QProgressBar::chunk { background: COLOUR; }"
ANSWERS = {"all": None, "right": True, "wrong": False}
IMAGE = 224  # pixels of the picture's side


def create(seam: Any = None) -> Any:
    """The panel's widget.

    Args:
        seam: the module that reaches the scene; None: there is none, and the panel only browses.
    """
    panel = Panel(*qt(), seam)
    panel.root.panel = panel  # lives as long as its widget
    return panel.root


def qt() -> tuple[Any, Any, Any]:
    """QtCore, QtGui and QtWidgets of the PySide that is there.

    Raises:
        SceneError: there is none.
    """
    for binding in ("PySide6", "PySide2"):
        if importlib.util.find_spec(binding):
            core, gui, widgets = (
                importlib.import_module(f"{binding}.{part}")
                for part in ("QtCore", "QtGui", "QtWidgets")
            )
            return core, gui, widgets
    raise SceneError("there is neither PySide6 nor PySide2 here")


class Panel:
    """Widgets and what they do. `root` is the widget that Houdini embeds."""

    def __init__(self, core: Any, gui: Any, widgets: Any, seam: Any):
        self.core, self.gui, self.widgets, self.seam = core, gui, widgets, seam
        self.browser: Browser | None = None
        self.chosen: list[int] = []
        self.bars: list[Any] = []
        self.atlas: Any = None
        self.root = widgets.QWidget()
        self._make()
        self._arrange()
        self.open_button.clicked.connect(self.ask)
        self.scene_button.clicked.connect(self.filter_scene)
        for box in (self.pred, self.answer, self.order):
            box.currentIndexChanged.connect(self.refresh)
        for box in (self.lowest, self.highest):
            box.valueChanged.connect(self.refresh)
        self.rows.currentRowChanged.connect(self.pick)

    def _make(self) -> None:
        widgets = self.widgets
        self.open_button = widgets.QPushButton("Open...")
        self.scene_button = widgets.QPushButton("Filter the scene")
        self.pred, self.answer, self.order = (widgets.QComboBox() for _ in range(3))
        self.answer.addItems(list(ANSWERS))
        self.order.addItems(list(ORDERS))
        self.lowest, self.highest = widgets.QDoubleSpinBox(), widgets.QDoubleSpinBox()
        for box, value in ((self.lowest, 0.0), (self.highest, 1.0)):
            box.setRange(0.0, 1.0)
            box.setSingleStep(0.05)
            box.setValue(value)
        self.batch = widgets.QSpinBox()
        self.batch.setRange(1, 64)
        self.batch.setToolTip("of /obj/classify: 1, or 8 with a model that takes any number")
        self.rows, self.picture = widgets.QListWidget(), widgets.QLabel()
        self.rows.setUniformItemSizes(True)
        self.picture.setFixedSize(IMAGE, IMAGE)
        self.summary, self.caption = widgets.QLabel("nothing opened yet"), widgets.QLabel()
        self.summary.setWordWrap(True)
        self.caption.setWordWrap(True)

    def _arrange(self) -> None:
        widgets = self.widgets
        buttons, filters, left, right, self.chart = (
            *(widgets.QHBoxLayout(), widgets.QFormLayout()),
            *(widgets.QVBoxLayout(), widgets.QVBoxLayout(), widgets.QVBoxLayout()),
        )
        buttons.addWidget(self.open_button)
        buttons.addWidget(self.scene_button)
        filters.addRow("taken for", self.pred)
        filters.addRow("answers", self.answer)
        filters.addRow("confidence from", self.lowest)
        filters.addRow("to", self.highest)
        filters.addRow("order", self.order)
        filters.addRow("images a frame", self.batch)
        left.addLayout(buttons)
        left.addLayout(filters)
        left.addWidget(self.summary)
        left.addWidget(self.rows, 1)
        right.addWidget(self.picture)
        right.addWidget(self.caption)
        right.addLayout(self.chart)
        right.addStretch(1)
        columns = widgets.QHBoxLayout(self.root)
        columns.addLayout(left, 1)
        columns.addLayout(right)

    def ask(self) -> None:
        """Let the user choose a result, and open it."""
        title, kinds = "What `import` wrote", "Results (map2d.json map3d.json)"
        name, _ = self.widgets.QFileDialog.getOpenFileName(self.root, title, "", kinds)
        if name:
            self.open(Path(name))

    def open(self, path: Path) -> None:
        """Show a result; where it cannot be read, say why."""
        try:
            self.browser = Browser.open(path)
        except SceneError as error:
            self.summary.setText(str(error))
            return
        names = self.browser.result.class_names
        self.atlas = self.gui.QPixmap(str(self.browser.result.atlas))
        self.pred.blockSignals(True)  # or each added name would filter anew
        self.pred.clear()
        self.pred.addItems(["all", *names])
        self.pred.blockSignals(False)
        while self.bars:
            self.bars.pop().deleteLater()
        for _ in names:
            bar = self.widgets.QProgressBar()
            bar.setRange(0, 1000)
            bar.setMinimumWidth(IMAGE)
            self.chart.addWidget(bar)
            self.bars.append(bar)
        self.refresh()

    def wanted(self) -> Filter:
        """What the boxes say."""
        number = self.pred.currentIndex() - 1  # 0: all
        correct = ANSWERS[self.answer.currentText()]
        pred = None if number < 0 else number
        return Filter(pred, correct, self.lowest.value(), self.highest.value())

    def refresh(self, *_: Any) -> None:
        """Filter the list anew, and pick its first row."""
        if self.browser is None:
            return
        self.chosen = self.browser.chosen(self.wanted(), self.order.currentText())
        self.rows.blockSignals(True)
        self.rows.clear()
        self.rows.addItems([self.browser.line(number) for number in self.chosen])
        self.rows.setCurrentRow(0 if self.chosen else -1)
        self.rows.blockSignals(False)
        self.summary.setText(self.browser.summary(self.chosen))
        self.pick(self.rows.currentRow())

    def pick(self, index: int) -> None:
        """Show the image and the probabilities of a row of the list."""
        if self.browser is None or not 0 <= index < len(self.chosen):
            self.picture.clear()
            self.caption.clear()
            return
        number = self.chosen[index]
        image = self.atlas.copy(self.core.QRect(*self.browser.cell(number)))
        self.picture.setPixmap(image.scaled(IMAGE, IMAGE))
        self.caption.setText(self.browser.line(number))
        for widget, bar in zip(self.bars, self.browser.bars(number), strict=True):
            widget.setValue(round(1000 * bar.probability))
            widget.setFormat(bar.text)
            widget.setStyleSheet(STYLE.replace("COLOUR", COLOURS[bar.role]))
        if self.seam is not None:
            self.seam.go_to(page_of(number, self.batch.value()))

    def filter_scene(self) -> None:
        """Let the scene show what the list shows."""
        snippet = self.wanted().snippet()
        if self.seam is None or not self.seam.set_snippet(FILTER, snippet):
            self.summary.setText(f"there is no {FILTER}: build it with the shelf tool Results")
