"""Which frames to label next. Each strategy is a function from a query to indices of the pool.

Random and the two controls know nothing of uncertainty: an uncertain frame is above all one with
objects, so an uncertainty that beats random has shown nothing yet.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from active_learning.predictions import Predictions

EPSILON = 1e-9


@dataclass(frozen=True)
class Query:
    """What a strategy is asked: n frames of the pool that are not labelled.

    Attributes:
        predictions: of the whole pool.
        labelled: which frames have labels.
        counts: labelled objects of each class.
        generator: for what is left to chance.
        gain: AP50 on validation frames after labelling a batch too; the oracle's alone.
    """

    predictions: Predictions
    labelled: Bool[Tensor, " N"]
    n: int
    counts: Int64[Tensor, " K"]
    generator: torch.Generator
    gain: Callable[[Int64[Tensor, " n"]], float] | None = None


Chosen = Int64[Tensor, " n"]


# --- controls --------------------------------------------------------------------------------


def random(query: Query) -> Chosen:
    """Any frames."""
    return best(query, draw(query))


def non_empty(query: Query) -> Chosen:
    """Any frames in which the net sees something: control for "uncertain means not empty".

    Where it sees something in too few, any others follow.
    """
    return best(query, query.predictions.seen[:, 0] * 2 + draw(query))


def most_boxes(query: Query) -> Chosen:
    """The fullest frames, by the expected number of objects: the dearest labels money can buy."""
    return best(query, (query.predictions.objects * query.predictions.seen).sum(1))


# --- uncertainty of objects --------------------------------------------------------------------


def least_confidence(query: Query) -> Chosen:
    """Sum over objects of 1 - p(likeliest outcome), "nothing" being one (Lewis 1994)."""
    sure = query.predictions.outcomes.amax(-1)
    return best(query, ((1 - sure) * query.predictions.seen).sum(1))


def margin(query: Query) -> Chosen:
    """Sum over objects of 1 - (the likeliest outcome's lead over the second) (Scheffer 2001)."""
    top = query.predictions.outcomes.topk(2, -1).values
    return best(query, ((1 - top[..., 0] + top[..., 1]) * query.predictions.seen).sum(1))


def entropy(query: Query) -> Chosen:
    """Sum over objects of the entropy of the outcomes."""
    return best(query, object_entropy(query.predictions).sum(1))


def entropy_mean(query: Query) -> Chosen:
    """Its mean over the frame's objects: does not prefer full frames."""
    seen = query.predictions.seen.sum(1).clamp(min=1)
    return best(query, object_entropy(query.predictions).sum(1) / seen)


def entropy_max(query: Query) -> Chosen:
    """The entropy of the frame's most uncertain object."""
    return best(query, object_entropy(query.predictions).amax(1))


def bald(query: Query) -> Chosen:
    """Sum over objects of what dropout's nets disagree about (Houlsby 2011, Gal 2017)."""
    return best(query, (disagreement(query) * query.predictions.seen).sum(1))


def committee(query: Query) -> Chosen:
    """The same of nets that were trained apart (Seung 1992; in nats, McCallum 1998)."""
    return bald(query)


# --- diversity -----------------------------------------------------------------------------------


def core_set(query: Query) -> Chosen:
    """Frames that are far from all labelled and chosen ones (Sener 2018, algorithm 1)."""
    return k_centres(query.predictions.embedding, query.labelled, query.n)


def badge(query: Query) -> Chosen:
    """k-means++ among gradients of the last layer, if what the net says were true (Ash 2020)."""
    gradients = gradient_embedding(query.predictions)
    return k_means_plus_plus(gradients, ~query.labelled, query.n, query.generator)


def diverse_entropy(query: Query) -> Chosen:
    """Of the 4 n most uncertain frames those that are far from each other."""
    return spread(query, object_entropy(query.predictions).sum(1))


# --- balance -------------------------------------------------------------------------------------


def class_entropy(query: Query) -> Chosen:
    """Entropy of each object, times how much its class is wanted, per expected box."""
    return best(query, wanted_entropy(query))


def diverse_class_entropy(query: Query) -> Chosen:
    """The same, spread."""
    return spread(query, wanted_entropy(query))


# --- knowing better ------------------------------------------------------------------------------


def oracle(query: Query) -> Chosen:
    """Of six batches, three of them by other strategies, the one that helps most once labelled.

    It trains for each: a greedy bound on what can be gained from a round, for small pools.
    """
    suggested = [class_entropy(query), non_empty(query), core_set(query)]
    batches = suggested + [random(query) for _ in range(3)]
    gains = [query.gain(batch) for batch in batches]
    return batches[gains.index(max(gains))]


STRATEGIES: dict[str, Callable[[Query], Chosen]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        random, non_empty, most_boxes, least_confidence, margin, entropy, entropy_mean, entropy_max,
        bald, committee, core_set, badge, class_entropy, diverse_entropy, diverse_class_entropy,
        oracle,
    )
}  # fmt: skip


# --- what they are made of -----------------------------------------------------------------------


def draw(query: Query) -> Float[Tensor, " N"]:
    """A number in [0, 1) for each frame."""
    return torch.rand(len(query.predictions), generator=query.generator)


def best(query: Query, worth: Float[Tensor, " N"]) -> Chosen:
    """The n frames without labels that are worth most; among equals, which zeros often are, any."""
    shuffled = torch.randperm(len(worth), generator=query.generator)
    worth = worth.masked_fill(query.labelled, -torch.inf)[shuffled]
    return shuffled[worth.sort(descending=True, stable=True).indices[: query.n]]


def object_entropy(predictions: Predictions) -> Float[Tensor, "N P"]:
    """H = -sum_o p_o log p_o of each peak's outcomes, in nats; 0 where nothing is seen."""
    p = predictions.outcomes
    return -(p * p.clamp(min=EPSILON).log()).sum(-1) * predictions.seen


def disagreement(query: Query) -> Float[Tensor, "N P"]:
    """Mutual information of outcome and net: H(mean of the members) - mean of their H, in nats."""
    p = query.predictions.members  # (M, N, P, O)

    def entropy_of(p: Tensor) -> Tensor:
        return -(p * p.clamp(min=EPSILON).log()).sum(-1)

    return entropy_of(p.mean(0)) - entropy_of(p).mean(0)


def wanted_entropy(query: Query) -> Float[Tensor, " N"]:
    """For each frame: what its objects are wanted, over the boxes that they will cost.

    A class is wanted by 1 / (1 + its labelled objects), an object by the mean over what it may be.
    A frame of one rare digit is then worth more than the same digit among common ones. The sum of
    entropies over the number of boxes alone would be the mean, which is another strategy.
    """
    wanted = 1 / (1 + query.counts.float())
    wanted = wanted / wanted.mean()
    worth = (query.predictions.classes * wanted).sum(-1)  # (N, P)
    total = (worth * object_entropy(query.predictions)).sum(1)
    boxes = (query.predictions.objects * query.predictions.seen).sum(1)
    return total / boxes.clamp(min=0.5)


def spread(query: Query, worth: Float[Tensor, " N"], factor: int = 4) -> Chosen:
    """n of the factor x n frames that are worth most, by k-centres among them."""
    few = min(factor * query.n, int((~query.labelled).sum()))
    top = worth.masked_fill(query.labelled, -torch.inf).topk(few).indices
    none = torch.zeros(few, dtype=torch.bool)
    none[0] = True  # the most wanted one is chosen, the others by their distance from the chosen
    chosen = k_centres(query.predictions.embedding[top], none, query.n - 1)
    return top[torch.cat([torch.zeros(1, dtype=torch.long), chosen])]


def k_centres(
    points: Float[Tensor, "N E"], centres: Bool[Tensor, " N"], n: int
) -> Int64[Tensor, " n"]:
    """Greedily the n points that are each farthest from all centres before it (Gonzalez 1985).

    Memory for N distances: each new centre costs one pass over the points. Without centres the
    point nearest to the mean is the first.
    """
    points = standardised(points)
    norm = points.square().sum(1)
    distance = torch.full((len(points),), torch.inf)

    def near(row: int) -> None:
        gap = norm - 2 * (points @ points[row]) + norm[row]
        torch.minimum(distance, gap.clamp_(min=0), out=distance)  # -inf of what is chosen stays

    for row in centres.nonzero()[:, 0].tolist():
        near(row)
    distance[centres] = -torch.inf
    chosen: list[int] = []
    while len(chosen) < n:
        row = int(distance.argmax()) if chosen or centres.any() else int(norm.argmin())
        chosen.append(row)
        near(row)
        distance[row] = -torch.inf
    return torch.tensor(chosen, dtype=torch.long)


def standardised(points: Float[Tensor, "N E"]) -> Float[Tensor, "N E"]:
    """Mean 0 and deviation 1 in each coordinate: no feature counts more for being large."""
    return (points - points.mean(0)) / points.std(0, correction=0).clamp(min=1e-6)


def gradient_embedding(predictions: Predictions) -> Float[Tensor, "N KF"]:
    """The gradient of the class loss by the last layer's weights, if the likeliest were right.

    At a peak (p - y) x feature (Ash 2020, eq. 1), times p(object), summed over what is seen: short
    where the net is sure.
    """
    p = predictions.classes
    error = p - torch.nn.functional.one_hot(p.argmax(-1), p.shape[-1])  # (N, P, K)
    error = error * (predictions.objects * predictions.seen)[..., None]
    return torch.einsum("npk,npf->nkf", error, predictions.features).flatten(1)


def k_means_plus_plus(
    points: Float[Tensor, "N E"],
    free: Bool[Tensor, " N"],
    n: int,
    generator: torch.Generator,
) -> Int64[Tensor, " n"]:
    """n of the free points, each drawn with a chance of its squared distance to the chosen ones.

    The longest is the first (Ash 2020; Arthur 2007 draws it evenly). Where all that is left lies on
    chosen points, any of them follow. Memory as in `k_centres`.
    """
    norm = points.square().sum(1)
    distance = torch.full((len(points),), torch.inf)
    available = free.clone()
    row = int(norm.masked_fill(~available, -1).argmax())
    chosen: list[int] = []
    while True:
        chosen.append(row)
        available[row] = False
        if len(chosen) == n:
            return torch.tensor(chosen, dtype=torch.long)
        torch.minimum(distance, norm - 2 * (points @ points[row]) + norm[row], out=distance)
        # Rounding leaves some 1e-7 of the norm between equal points: that is no distance.
        chance = torch.where(available & (distance > 1e-5 * norm), distance, 0.0).double()
        if chance.sum() == 0:
            chance = available.double()
        # Not torch.multinomial, which refuses more than 2^24 points.
        threshold = torch.rand((), generator=generator, dtype=torch.double) * chance.sum()
        row = int(
            torch.searchsorted(chance.cumsum(0), threshold, right=True).clamp(max=len(chance) - 1)
        )
        if not available[row]:  # rounding at the very end
            row = int(chance.argmax())
