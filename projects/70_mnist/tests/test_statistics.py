"""Student's t and its intervals against scipy."""

import numpy as np
import pytest
from scipy import stats

from mnist.statistics import interval, t_below, t_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 30, 101])
def test_t_against_scipy(freedom):
    for t in (0.0, 0.3, 1.0, 2.776, 12.7):
        assert t_below(t, freedom) == pytest.approx(stats.t.cdf(t, freedom), abs=1e-13)
    for probability in (0.5, 0.75, 0.975, 0.9995):
        expected = stats.t.ppf(probability, freedom)
        assert t_quantile(probability, freedom) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_interval_against_scipys_paired_test(confidence):
    generator = np.random.default_rng(0)
    ours, theirs = generator.normal(0.97, 0.01, (2, 5))
    found = interval(list(ours - theirs), confidence)
    expected = stats.ttest_rel(ours, theirs).confidence_interval(confidence)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert found.mean == pytest.approx(np.mean(ours - theirs))
