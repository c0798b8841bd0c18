"""The notebook runs from top to bottom, on few images and steps, in a kernel of its own."""

from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient

PATH = Path(__file__).parents[1] / "notebooks/fashion_mnist_00.ipynb"
SMALL = """
STEPS, WIDTH, MAPPED = 12, 4, 100
import torch, fashion_mnist.data
parts = [fashion_mnist.data.Labelled(*part) for part in torch.load({data!r})]
fashion_mnist.data.load = lambda: parts
"""


@pytest.fixture(scope="module")
def outputs(splits, tmp_path_factory) -> list[str]:
    """What each code cell shows, on little data."""
    home = tmp_path_factory.mktemp("notebook")
    torch.save([tuple(part) for part in splits], home / "data.pt")
    notebook = nbformat.read(PATH, as_version=4)
    (parameters,) = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    parameters.source = SMALL.format(data=str(home / "data.pt"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_RUNS", str(home / "runs"))
        NotebookClient(notebook, timeout=600, kernel_name="python3").execute(cwd=str(home))
    return [shown(cell) for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell) -> str:
    """What a cell printed, and the kinds of what it displayed."""
    return "\n".join(
        out.text if out.output_type == "stream" else " ".join(out.data) for out in cell.outputs
    )


def test_it_runs_and_draws(outputs):
    text = "\n".join(outputs)
    assert "1,000 150 250" in text
    assert "validation accuracy: " in text
    assert "suspects among 150 images" in text
    assert text.count("image/png") == 7


def test_what_is_committed_holds_no_output():
    assert PATH.stat().st_size < 50_000
    notebook = nbformat.read(PATH, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert cell.cell_type == "markdown" or (not cell.outputs and cell.execution_count is None)
