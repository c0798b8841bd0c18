"""The notebooks run from top to bottom, on few images and steps, in a kernel of their own."""

from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
SMALL = """
STEPS, WIDTH, MIX, SYNTHETIC, REAL, RENDERED = 3, 4, 0.05, {rendered!r}, 60, 100
import torch, mnist.data, mnist.train
parts = [mnist.data.Labelled(*part) for part in torch.load({data!r})]
mnist.data.load = mnist.train.load = lambda: parts
"""


@pytest.fixture(scope="module")
def outputs(splits, write_rendered, tmp_path_factory) -> dict[str, list[str]]:
    """What each code cell of each notebook shows, as one text, on little data.

    One kernel runs them after each other, emptied in between: starting one takes 8 s of CPU.
    """
    home = tmp_path_factory.mktemp("notebooks")
    torch.save([tuple(part) for part in splits], home / "data.pt")
    small = SMALL.format(rendered=str(write_rendered(splits[0], home)), data=str(home / "data.pt"))
    sources, names = [], []
    for path in sorted(FOLDER.glob("*.ipynb")):
        read = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        (parameters,) = (cell for cell in read if "parameters" in cell.metadata.get("tags", []))
        parameters.source = small
        sources += ["%reset -f", *(cell.source for cell in read)]
        names += [path.name] * (len(read) + 1)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_RUNS", str(home / "runs"))
        NotebookClient(notebook, timeout=600, kernel_name="python3").execute(cwd=str(home))
    found = {}
    for name, cell in zip(names, notebook.cells, strict=True):
        found.setdefault(name, []).append(shown(cell))
    return found


def shown(cell) -> str:
    """What a cell printed, and the kinds of what it displayed."""
    texts = []
    for out in cell.outputs:
        if out.output_type == "stream":
            texts.append(out.text)
        else:
            texts.append(" ".join(out.data) + out.data.get("text/markdown", ""))
    return "\n".join(texts)


def test_the_cnn(outputs):
    text = "\n".join(outputs["mnist_notebook_00.ipynb"])
    assert "1,100 150 250" in text
    assert text.count("validation: ") == 4, "as it is, a layer, a loss, the mix"
    assert "1,100 real images and 58 rendered ones" in text
    assert text.count("image/png") == 4


def test_rendered_digits(outputs):
    cells = outputs["mnist_synthetic_00.ipynb"]
    text = "\n".join(cells)
    assert "0: 12" in text
    assert text.count("image/png") == 2
    rows = [line for line in text.splitlines() if line.startswith("| ") and "%" in line]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == [
        "real alone", "rendered alone", "one heap", "real ones 2 times",
    ]  # fmt: skip
    assert "no study yet" in cells[-1]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.name)
def test_what_is_committed_holds_no_output(path):
    assert path.stat().st_size < 50_000
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.cell_type == "markdown" or (not cell.outputs and cell.execution_count is None)


def test_both_are_there():
    names = [path.name for path in sorted(FOLDER.glob("*.ipynb"))]
    assert names == ["mnist_notebook_00.ipynb", "mnist_synthetic_00.ipynb"]
