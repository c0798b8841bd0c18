"""Every strategy chooses what it says, and n new frames whatever it is given."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from active_learning import strategies
from active_learning.config import STRATEGIES as NAMES
from active_learning.predictions import Predictions, only, outcomes, predict
from active_learning.strategies import (
    STRATEGIES,
    Query,
    disagreement,
    gradient_embedding,
    k_centres,
    k_means_plus_plus,
    object_entropy,
    wanted_entropy,
)


def ask(predictions: Predictions, n: int = 5, labelled=(), counts=None, seed=0, gain=None) -> Query:
    mask = torch.zeros(len(predictions), dtype=torch.bool)
    mask[list(labelled)] = True
    counts = torch.ones(10, dtype=torch.long) if counts is None else torch.tensor(counts)
    return Query(predictions, mask, n, counts, torch.Generator().manual_seed(seed), gain)


def test_every_name_of_the_options_is_a_function():
    assert tuple(STRATEGIES) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [1, 7, 30])
def test_n_new_frames(name, n, made_up):
    """Also when n is all that is left, and where nothing is seen anywhere."""
    blind = replace(made_up, objects=made_up.objects * 0.01)
    same = replace(made_up, features=made_up.features * 0, embedding=made_up.embedding * 0)
    for predictions in (made_up, blind, same):
        query = ask(predictions, n, range(3, 13), gain=lambda batch: 0.0)
        chosen = STRATEGIES[name](query)
        assert chosen.shape == chosen.unique().shape == (n,)
        assert not set(chosen.tolist()) & set(range(3, 13))


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_pool_does_not_matter(name, made_up):
    """Shuffled frames: the same ones are chosen, where nothing is left to chance."""
    if name in ("random", "non-empty", "badge", "oracle"):
        pytest.skip("draws")
    order = torch.randperm(40)
    labelled = [0, 20, 30]
    at = [int((order == row).nonzero()) for row in labelled]
    straight = STRATEGIES[name](ask(made_up, 6, labelled))
    shuffled = order[STRATEGIES[name](ask(only(made_up, order), 6, at))]
    assert set(straight.tolist()) == set(shuffled.tolist())


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_decides(name, made_up):
    gain = lambda batch: float(batch.sum())  # noqa: E731
    first, second = (STRATEGIES[name](ask(made_up, 6, [1], seed=3, gain=gain)) for _ in range(2))
    assert torch.equal(first, second)


def test_non_empty_prefers_what_is_seen_and_is_random_among_it(made_up):
    """10 of 40 frames show nothing: they come last."""
    chosen = [set(strategies.non_empty(ask(made_up, 20, seed=s)).tolist()) for s in range(5)]
    assert all(min(some) >= 10 for some in chosen)
    assert len(set(map(frozenset, chosen))) == 5
    everything = strategies.non_empty(ask(made_up, 35)).tolist()
    assert set(everything[:30]) == set(range(10, 40))


def test_most_boxes(made_up):
    expected = np.where(made_up.objects.numpy() >= 0.1, made_up.objects.numpy(), 0).sum(1)
    chosen = strategies.most_boxes(ask(made_up, 5))
    assert chosen.tolist() == np.argsort(-expected)[:5].tolist()


def certain(predictions: Predictions, row: int) -> Predictions:
    """One frame about which there is no doubt."""
    objects, classes = predictions.objects.clone(), predictions.classes.clone()
    objects[row] = torch.tensor([1.0, 1, 1, 0, 0, 0])
    classes[row] = F.one_hot(torch.zeros(6, dtype=torch.long), 10).float()
    return replace(predictions, objects=objects, classes=classes)


@pytest.mark.parametrize(
    "name",
    ["least-confidence", "margin", "entropy", "entropy-mean", "entropy-max", "class-entropy"],
)
def test_uncertainty_leaves_the_certain_frame(name, made_up):
    seen = only(made_up, torch.arange(10, 40))
    chosen = STRATEGIES[name](ask(certain(seen, 17), 29))
    assert 17 not in chosen.tolist()


def worths(strategy, predictions: Predictions) -> list[float]:
    """What a strategy thinks each frame is worth."""
    found = []

    def best(query, worth):
        found.append(worth)
        return torch.zeros(1, dtype=torch.long)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strategies, "best", best)
        strategy(ask(predictions, 1))
    return found[0].tolist()


def test_entropy_on_paper():
    """One object, half there, one of two classes: 1/4, 1/4 and 1/2 make 1.5 ln 2."""
    one = Predictions(
        objects=torch.tensor([[0.5, 0.05]]),
        classes=torch.tensor([[[0.5, 0.5], [0.5, 0.5]]]),
        boxes=torch.zeros(1, 2, 4),
        features=torch.zeros(1, 2, 1),
        embedding=torch.zeros(1, 1),
    )
    assert object_entropy(one)[0].tolist() == pytest.approx([1.5 * np.log(2), 0])
    assert outcomes(one.objects, one.classes).sum(-1).tolist() == [[1.0, 1.0]]
    few = replace(one, objects=torch.tensor([[0.9, 0.4]]))
    top = few.outcomes
    assert top[0, 0].tolist() == pytest.approx([0.45, 0.45, 0.1])
    # least confidence: 1 - 0.45 and 1 - 0.6; margin: 1 - 0 and 1 - 0.4
    for function, expected in ((strategies.least_confidence, 0.95), (strategies.margin, 1.6)):
        assert worths(function, few) == pytest.approx([expected], abs=1e-6)


def test_sum_mean_and_max_differ(made_up):
    """A frame with five half-certain objects against one with a single uncertain one."""
    objects = torch.zeros(2, 6)
    objects[0, :5], objects[1, 0] = 0.9, 0.5
    two = replace(only(made_up, torch.tensor([20, 21])), objects=objects)
    two = replace(two, classes=F.one_hot(torch.zeros(2, 6, dtype=torch.long), 10).float())
    chosen = [STRATEGIES[n](ask(two, 1)).item() for n in ("entropy", "entropy-mean", "entropy-max")]
    assert chosen == [0, 1, 1]


def test_disagreement_is_mutual_information(made_up):
    from scipy.stats import entropy

    p = made_up.members.numpy()
    expected = entropy(p.mean(0), axis=-1) - entropy(p, axis=-1).mean(0)
    found = disagreement(ask(made_up))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    assert (found >= -1e-6).all()
    agreed = replace(made_up, members=made_up.members[:1].expand(3, -1, -1, -1))
    assert disagreement(ask(agreed)).abs().max() < 1e-6


def test_bald_takes_what_the_members_disagree_about(made_up):
    members = made_up.members[:1].repeat(3, 1, 1, 1)
    members[:, 25] = F.one_hot(torch.arange(3), 11).float()[:, None]
    chosen = strategies.bald(ask(replace(made_up, members=members), 1))
    assert chosen.tolist() == [25]


def test_rare_classes_are_wanted(made_up):
    """Two frames, equally uncertain, of a common and of a rare class."""
    objects = torch.zeros(2, 6)
    objects[:, 0] = 0.5
    classes = torch.full((2, 6, 10), 0.1 / 9)
    classes[0, :, 3], classes[1, :, 7] = 0.9, 0.9
    two = replace(only(made_up, torch.arange(2)), objects=objects, classes=classes)
    assert strategies.class_entropy(ask(two, 1, counts=[50] * 7 + [1] + [50] * 2)).item() == 1
    assert strategies.class_entropy(ask(two, 1, counts=[50] * 3 + [1] + [50] * 6)).item() == 0


def test_a_rare_object_is_worth_more_alone(made_up):
    """The same digit in a frame with certain common ones costs their boxes too."""
    objects, classes = torch.zeros(2, 6), torch.zeros(2, 6, 10)
    classes[..., 0] = 1
    objects[:, 0] = 0.5
    objects[1, 1:4] = 1.0
    two = replace(only(made_up, torch.arange(2)), objects=objects, classes=classes)
    alone, crowded = wanted_entropy(ask(two, 1)).tolist()
    assert alone > 1.5 * crowded


def test_k_centres_by_the_slow_algorithm(made_up):
    """Every distance to every centre, at every turn."""
    points = strategies.standardised(made_up.embedding)
    centres = [4, 9]
    expected = []
    for _ in range(12):
        distance = torch.cdist(points, points[centres + expected]).amin(1)
        expected.append(int(distance.argmax()))
    mask = torch.zeros(40, dtype=torch.bool)
    mask[centres] = True
    assert k_centres(made_up.embedding, mask, 12).tolist() == expected


def test_k_centres_without_any_starts_in_the_middle():
    points = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    assert k_centres(points, torch.zeros(4, dtype=torch.bool), 2).tolist() == [2, 3]


def test_core_set_does_not_choose_near_duplicates():
    """60 clips of 5 frames: of 30 picks no two are of one clip, where random has some."""
    torch.manual_seed(0)
    centres = torch.randn(60, 16).repeat_interleave(5, 0)
    points = centres + 0.01 * torch.randn(300, 16)
    chosen = k_centres(points, torch.zeros(300, dtype=torch.bool), 30)
    assert len((chosen // 5).unique()) == 30


def test_k_means_plus_plus_draws_by_squared_distance():
    """Of a point at 1 and one at 2 the farther is drawn four times as often."""
    points = torch.tensor([[3.0], [2.0], [1.0]])  # the longest first: then gaps of 1 and 2
    free = torch.ones(3, dtype=torch.bool)
    second = [
        k_means_plus_plus(points, free, 2, torch.Generator().manual_seed(s))[1].item()
        for s in range(600)
    ]
    assert second.count(2) / 600 == pytest.approx(0.8, abs=0.05)
    assert set(second) == {1, 2}


def test_gradient_embedding_is_the_gradient():
    """By autograd: of the cross-entropy with the likeliest class, over the last layer's weights."""
    torch.manual_seed(0)
    features, weight = torch.randn(5), torch.randn(4, 5, requires_grad=True)
    logits = weight @ features
    F.cross_entropy(logits[None], logits.argmax()[None]).backward()
    one = Predictions(
        objects=torch.tensor([[1.0]]),
        classes=logits.detach().softmax(0)[None, None],
        boxes=torch.zeros(1, 1, 4),
        features=features[None, None],
        embedding=torch.zeros(1, 1),
    )
    np.testing.assert_allclose(
        gradient_embedding(one)[0].numpy(), weight.grad.flatten().numpy(), atol=1e-6
    )


def test_no_n_by_n(made_up):
    """20,000 points: a table of their distances would be 1.6 GB."""
    import resource

    points = torch.randn(20_000, 16)
    none = torch.zeros(20_000, dtype=torch.bool)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    k_centres(points, none, 20)
    k_means_plus_plus(points, ~none, 20, torch.Generator())
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
    assert grown < 100_000


def test_the_oracle_takes_the_batch_that_helps_most(made_up):
    tried = []

    def gain(batch):
        tried.append(batch)
        return 1.0 if len(tried) == 4 else 0.5

    chosen = strategies.oracle(ask(made_up, 4, gain=gain))
    assert len(tried) == 6
    assert torch.equal(chosen, tried[3])


def test_predictions_of_a_pool(pool):
    """Peaks are sorted, batches do not matter, dropout's passes differ, committees do not."""
    from active_learning.model import Detector

    torch.manual_seed(0)
    net = Detector(10, width=4).eval()
    cpu = torch.device("cpu")
    whole, parts = predict(net, pool, cpu), predict(net, pool, cpu, batch=7)
    assert torch.allclose(whole.embedding, parts.embedding, atol=1e-5)
    assert (whole.objects.diff(dim=1) <= 0).all()
    assert whole.members is None
    dropped = predict(net, pool, cpu, passes=4).members
    assert dropped.shape == (4, 90, 6, 11)
    assert not torch.allclose(dropped[0], dropped[1])
    twice = predict(net, pool, cpu, committee=(net, net)).members
    assert torch.allclose(twice[0], twice[1])
    assert torch.allclose(twice[0], whole.outcomes, atol=1e-5), "the same peaks, the same net"
