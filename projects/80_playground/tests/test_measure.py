"""What `measure` measures, in small."""

from playground import measure
from playground.config import MeasureConfig


def test_all_three_are_measured(drawn, monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "mnist", lambda split: drawn)
    monkeypatch.setattr(measure, "GUESSES", 10)
    found = measure.measure(MeasureConfig(steps=20, kills=1))
    assert found["frame_ms_p99"] >= found["frame_ms_p50"] > 0
    assert found["guess_ms_max"] >= found["guess_ms_p50"] > 0
    assert found["steps_a_frame"] >= 1
    assert found["samples_lost"] == 0
    assert found["samples_kept"] >= 1
