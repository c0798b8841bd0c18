"""What the Python panel shows, without Qt and without Houdini: filter, order, words, rectangles.

`panel` draws it. Everything that can be wrong is here, where it can be tested.
"""

from dataclasses import dataclass
from pathlib import Path

from lab_houdini.result import Prediction, Result, predictions, read
from lab_houdini.results_plan import Filter

ORDERS = ("sure first", "unsure first", "as in the file")


@dataclass(frozen=True)
class Bar:
    """A class in the panel's bar chart.

    Attributes:
        text: name and probability.
        probability: 0 to 1.
        role: "right" or "wrong" where it was predicted, "label" where it should have been, or "".
    """

    text: str
    probability: float
    role: str


@dataclass(frozen=True)
class Browser:
    """A result and its rows, read once."""

    result: Result
    rows: tuple[Prediction, ...]

    @classmethod
    def open(cls, path: Path) -> "Browser":
        """The result at `path`.

        Raises:
            SceneError: it cannot be read.
        """
        result = read(path)
        return cls(result, tuple(predictions(result)))

    def chosen(self, which: Filter, order: str = ORDERS[0]) -> list[int]:
        """Rows that a filter lets through, in this order; ties stay as in the file."""
        found = [number for number, row in enumerate(self.rows) if passes(row, which)]
        if order != "as in the file":
            confidences = [row.confidence for row in self.rows]
            found.sort(key=confidences.__getitem__, reverse=order == "sure first")
        return found

    def line(self, number: int) -> str:
        """A row in the list: what it was taken for, how sure, and what it is."""
        row, names = self.rows[number], self.result.class_names
        true = "" if row.correct else f", is {names[row.label]}"
        return f"#{row.image}  {names[row.pred]} {row.confidence:.1%}{true}"

    def summary(self, chosen: list[int]) -> str:
        """How many, and how many of them are right."""
        right = sum(self.rows[number].correct for number in chosen)
        share = f", {right / len(chosen):.1%} right" if chosen else ""
        return f"{len(chosen):,} of {len(self.rows):,}{share}"

    def cell(self, number: int) -> tuple[int, int, int, int]:
        """Where the image of a row is in the atlas: left, top, width, height, in pixels from the
        top left corner, as Qt counts."""
        row, column = divmod(number, self.result.columns)
        side = self.result.cell
        return column * side, row * side, side, side

    def bars(self, number: int) -> list[Bar]:
        """All classes of a row, in their own order, so that the eye finds them again."""
        row = self.rows[number]
        roles = {row.label: "label", row.pred: "right" if row.correct else "wrong"}
        pairs = zip(self.result.class_names, row.probabilities, strict=True)
        return [Bar(f"{name}  {p:.1%}", p, roles.get(k, "")) for k, (name, p) in enumerate(pairs)]


def passes(row: Prediction, which: Filter) -> bool:
    """As the wrangle of `Filter.snippet` does."""
    return (
        which.pred in (None, row.pred)
        and which.correct in (None, row.correct)
        and which.lowest <= row.confidence
        and (row.confidence <= which.highest or which.highest >= 1)
    )
