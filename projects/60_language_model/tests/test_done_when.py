"""The project's done-when, trained for real: `pytest -m done_when`."""

import pytest

from trainloop.testing import done_when_parameters, hold


@pytest.mark.done_when
@pytest.mark.parametrize("criterion", done_when_parameters("language-model"))
def test_done_when(criterion, tmp_path_factory):
    hold(criterion, tmp_path_factory.getbasetemp() / "runs")
