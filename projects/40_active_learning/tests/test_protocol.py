"""One seed: what is shared, what is paired, and that it stops and goes on to the last bit."""

import json
from dataclasses import replace

import pytest
import torch

from active_learning import protocol
from active_learning.config import CurveConfig
from active_learning.protocol import START, Ledger, curve, first_frames
from trainloop import LabError, load_checkpoint
from trainloop.testing import assert_resume_is_exact


def rows(runs) -> dict[float, list[dict]]:
    """metrics.jsonl of the newest run: number of the strategy -> its rows."""
    found = {}
    for line in (runs / "active-learning/latest/metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        found.setdefault(record["strategy"], []).append(record)
    return found


def ledger(runs) -> dict:
    saved = load_checkpoint(runs / "active-learning/latest/last.pt", "active-learning")
    return saved["states"]["ledger"]["rounds"]


def test_a_curve(tiny, runs, pool):
    """Rounds, costs and picks: each strategy labels new frames, from the same first ones."""
    curve(replace(tiny, strategies=("random", "most-boxes")))
    found, picked = rows(runs), ledger(runs)
    assert {name: [row["round"] for row in part] for name, part in found.items()} == {
        -1: [0], 0: [1, 2], 1: [1, 2],
    }  # fmt: skip
    assert [row["frames"] for row in found[0]] == [22, 32]
    for number, name in enumerate(("random", "most-boxes")):
        frames = picked[START][0] + picked[name][0]
        assert len(set(frames)) == 22
        assert found[number][0]["boxes"] == int(pool.objects[frames].sum())
        assert found[number][0]["empty"] == int((pool.objects[frames] == 0).sum())
        assert not set(picked[name][0]) & set(picked[name][1])
    assert picked[START] == [first_frames(90, 12, tiny.seed)]
    assert all(0 <= row["ap50"] <= 1 for part in found.values() for row in part)


def test_resume_is_exact(tiny, tmp_path, monkeypatch):
    """Cut after a training, before its picks are saved: that one is done again, with the others."""
    config = replace(tiny, strategies=("entropy", "badge"))
    assert_resume_is_exact(curve, config, "active-learning", 3, tmp_path, monkeypatch)


def test_a_training_is_done_once(tiny, monkeypatch, runs):
    """The first one is shared; a committee costs more, but not after its last round."""
    asked = []
    fit = protocol.fit

    def counted(frames, config, device, seed):
        asked.append((len(frames), seed))
        return fit(frames, config, device, seed)

    monkeypatch.setattr(protocol, "fit", counted)
    curve(replace(tiny, strategies=("random", "entropy")))
    assert [count for count, _ in asked] == [12, 22, 32, 22, 32]
    assert len({seed for _, seed in asked}) == 3, "round by round the same seeds for all"
    asked.clear()
    curve(replace(tiny, strategies=("committee",), members=3))
    assert [count for count, _ in asked] == [12] * 3 + [22] * 3 + [32]
    assert len({seed for _, seed in asked}) == 7


@pytest.mark.parametrize("name", ["bald", "committee", "oracle"])
def test_strategies_that_need_more_than_one_look(tiny, name, runs):
    curve(replace(tiny, strategies=(name,), rounds=1, members=2, passes=3))
    assert len(ledger(runs)[name][0]) == 10


def test_first_frames_follow_from_the_seed_alone():
    assert first_frames(90, 12, 3) == first_frames(90, 12, 3)
    assert first_frames(90, 12, 3) != first_frames(90, 12, 4)
    assert len(set(first_frames(90, 90, 0))) == 90


def test_ledger():
    book = Ledger([1, 2])
    book.add("a", torch.tensor([3, 4]))
    book.add("a", torch.tensor([5, 6]))
    assert book.labelled("a", 0) == book.labelled("b", 1) == [1, 2]
    assert book.labelled("a", 1) == [1, 2, 3, 4]
    other = Ledger([])
    other.load_state_dict(book.state_dict())
    assert other.labelled("a", 2) == [1, 2, 3, 4, 5, 6]


def test_no_picks_after_the_last_round(tiny, runs):
    curve(replace(tiny, rounds=1))
    assert {name: len(batches) for name, batches in ledger(runs).items()} == {
        START: 1, "random": 1, "non-empty": 1, "entropy": 1,
    }  # fmt: skip


def test_a_pool_smaller_than_the_query():
    with pytest.raises(LabError, match="a pool of 90 frames is smaller than"):
        CurveConfig(frames=90)
    assert CurveConfig(frames=90, start=10, query=20, rounds=4).trainings == 1 + 4 * 3
