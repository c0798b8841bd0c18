"""What counting gets: an interpolated Kneser-Ney n-gram model, vectorised."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor


@dataclass(frozen=True)
class Order:
    """Counts of the n-grams of one length.

    Attributes:
        codes: n-grams seen, sorted; as numbers in base `vocabulary`, the last token the low digit.
        counts: how often, or for all but the longest: after how many different tokens.
        contexts: the n-grams without their last token, sorted.
        totals: sum of the counts of each context.
        kinds: how many different tokens follow each context.
        discount: what is taken off each count and given to shorter contexts.
    """

    codes: Int64[np.ndarray, " K"]
    counts: Int64[np.ndarray, " K"]
    contexts: Int64[np.ndarray, " J"]
    totals: Int64[np.ndarray, " J"]
    kinds: Int64[np.ndarray, " J"]
    discount: float


class KneserNey:
    """P(token | the n - 1 before it); n = 2 is the bigram table.

    P_n(w | h) = max(c(h w) - D, 0) / c(h) + D kinds(h) / c(h) * P_{n-1}(w | h'),

    with h' = h less its first token, counts of shorter contexts taken over different left
    neighbours, D = n_1 / (n_1 + 2 n_2), and P_0 uniform: Chen & Goodman 1999, eq. 24 and 26.

    Args:
        longest: n, at least 1.

    Raises:
        ValueError: n-grams do not fit into 63 bits.
    """

    def __init__(self, tokens: Int64[Tensor, " N"], vocabulary: int, longest: int) -> None:
        if vocabulary**longest >= 2**63:
            raise ValueError(f"{longest}-grams of {vocabulary} tokens are too many to number")
        self.vocabulary, self.longest = vocabulary, longest
        codes, counts = np.unique(self._codes(tokens.numpy(), longest), return_counts=True)
        self._orders: list[Order] = []  # the longest first
        for n in range(longest, 0, -1):
            contexts, start = np.unique(codes // vocabulary, return_index=True)
            once, twice = (counts == 1).sum(), (counts == 2).sum()
            self._orders.append(
                Order(
                    codes=codes,
                    counts=counts,
                    contexts=contexts,
                    totals=np.add.reduceat(counts, start),
                    kinds=np.diff(np.append(start, len(codes))),
                    discount=float(once / (once + 2 * twice)) if once and twice else 0.5,
                )
            )
            # Each different n-gram is one left neighbour of its last n - 1 tokens.
            codes, counts = np.unique(codes % vocabulary ** (n - 1), return_counts=True)

    def losses(self, tokens: Int64[Tensor, " N"]) -> Float64[Tensor, " M"]:
        """-log P in nats of each token that has n - 1 before it."""
        codes = self._codes(tokens.numpy(), self.longest)
        probability = np.full(len(codes), 1 / self.vocabulary)
        for n, order in zip(range(1, self.longest + 1), reversed(self._orders), strict=True):
            code = codes % self.vocabulary**n
            count, _ = found(order.codes, order.counts, code)
            place, known = found(
                order.contexts, np.arange(len(order.contexts)), code // self.vocabulary
            )
            total, kinds = order.totals[place], order.kinds[place]
            mixed = np.maximum(count - order.discount, 0) + order.discount * kinds * probability
            probability = np.where(known, mixed / total, probability)
        return torch.from_numpy(-np.log(probability))

    def _codes(self, tokens: np.ndarray, n: int) -> np.ndarray:
        """The n-gram that ends at token n - 1, n, ..."""
        count = max(0, len(tokens) - n + 1)
        codes = np.zeros(count, np.int64)
        for k in range(n):
            codes = codes * self.vocabulary + tokens[k : k + count]
        return codes


def found(keys: np.ndarray, values: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each key asked for its value, 0 where it is not among the sorted keys, and if it is."""
    place = np.searchsorted(keys, asked).clip(max=len(keys) - 1)
    known = keys[place] == asked
    return np.where(known, values[place], 0), known
