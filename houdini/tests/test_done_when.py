"""The project's done-when, made for real: `pytest -m done_when`."""

import pytest

from trainloop.testing import done_when_parameters, hold


@pytest.mark.done_when
@pytest.mark.parametrize("criterion", done_when_parameters("houdini"))
def test_done_when(criterion, tmp_path_factory, monkeypatch):
    home = tmp_path_factory.getbasetemp()
    if criterion.command == "digits":  # made anew; `train` needs MNIST, and takes what is there
        monkeypatch.setenv("LAB_DATA", str(home / "data"))
    hold(criterion, home / "runs")
