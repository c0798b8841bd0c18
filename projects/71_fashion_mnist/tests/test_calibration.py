"""Scores of probabilities and the temperature, against scikit-learn, scipy and known cases."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize
from sklearn import metrics
from torch.nn import functional as F

from fashion_mnist.calibration import fit_temperature, reliability, scores


@pytest.fixture
def answers() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels that are drawn from softmax(logits / 1.7): too sure by 1.7."""
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(20_000, 10, generator=generator)
    labels = torch.multinomial((logits / 1.7).softmax(1), 1, generator=generator)[:, 0]
    return logits, labels


def test_scores_against_scikit_learn(answers):
    logits, labels = (part[:500] for part in answers)
    found = scores(logits, labels, 1.3)
    p = (logits.double() / 1.3).softmax(1).numpy()
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, p.argmax(1)))
    assert found["nll"] == pytest.approx(metrics.log_loss(labels, p, labels=range(10)))
    brier = metrics.brier_score_loss(labels.numpy(), p, labels=np.arange(10), scale_by_half=False)
    assert found["brier"] == pytest.approx(brier)


def test_ece_of_a_case_worked_out_by_hand():
    """Ten predictions of 0.65, seven right; ten of 0.95, eight right: (0.05 + 0.15) / 2."""
    p = torch.full((20, 10), 0.05 / 9)
    p[:10] = 0.35 / 9
    p[:10, 0], p[10:, 0] = 0.65, 0.95
    labels = torch.tensor([0] * 7 + [1] * 3 + [0] * 8 + [1] * 2)
    found = reliability(p, labels)
    assert found.ece == pytest.approx(0.1)
    assert found.count.nonzero()[:, 0].tolist() == [9, 14]
    assert found.accuracy[9] == pytest.approx(0.7)
    assert found.confidence[14] == pytest.approx(0.95)


def test_bins_are_open_on_the_left():
    """(0, 1/b], (1/b, 2/b], ...: what lies on an edge belongs to the bin below it (Guo 2017)."""
    p = torch.zeros(3, 10, dtype=torch.float64)
    p[:, 0] = torch.tensor([0.5, 0.5000001, 1.0], dtype=torch.float64)
    p[:, 1] = 1 - p[:, 0]
    assert reliability(p, torch.zeros(3, dtype=torch.int64), bins=4).count.tolist() == [0, 1, 1, 1]


def test_calibrated_answers_have_almost_no_error(answers):
    logits, labels = answers
    assert scores(logits, labels, 1.7)["ece"] < 0.01
    assert scores(logits, labels, 1.0)["ece"] > 0.05


def test_the_temperature_is_found_again(answers):
    assert fit_temperature(*answers) == pytest.approx(1.7, rel=0.03)


@pytest.mark.parametrize("factor", [0.02, 0.3, 1.0, 8.0])
def test_it_is_scipys_minimum(answers, factor):
    logits, labels = answers[0][:2000] * factor, answers[1][:2000]

    def nll(log_t: float) -> float:
        return F.cross_entropy(logits.double() / math.exp(log_t), labels).item()

    bounds = (math.log(0.01), math.log(100))
    best = optimize.minimize_scalar(nll, bounds=bounds, method="bounded", options={"xatol": 1e-10})
    assert fit_temperature(logits, labels) == pytest.approx(math.exp(best.x), rel=1e-4)


def test_accuracy_stays_and_the_temperature_is_scale_free(answers):
    logits, labels = answers
    one, ten = fit_temperature(logits, labels), fit_temperature(10 * logits, labels)
    assert ten == pytest.approx(10 * one, rel=1e-6)
    assert scores(logits, labels)["accuracy"] == scores(logits, labels, one)["accuracy"]


def test_answers_that_are_all_right_or_all_wrong_stay_finite():
    labels = torch.arange(10)
    assert fit_temperature(5 * torch.eye(10), labels) == pytest.approx(0.01)
    wrong = 5 * torch.eye(10)[(labels + 1) % 10]
    assert fit_temperature(wrong, labels) == pytest.approx(100, rel=0.01)
    assert math.isfinite(fit_temperature(torch.zeros(10, 10), labels))
