"""Text to numbers and back: characters, and byte-level byte-pair encoding by hand."""

import codecs
import heapq
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import regex

from trainloop import LabError, check

# GPT-2's: a piece keeps the blank before it, so that " the" is one token (Radford 2019, sec. 2.2).
PIECES = regex.compile(r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


class Characters:
    """One token for each different character of a text."""

    def __init__(self, symbols: str) -> None:
        self.symbols, self.size = symbols, len(symbols)
        self._points = np.array([ord(symbol) for symbol in symbols], dtype=np.uint32)

    @classmethod
    def of(cls, text: str) -> "Characters":
        """The characters of a text in the order of their code points."""
        return cls("".join(sorted(set(text))))

    def encode(self, text: str) -> list[int]:
        """Tokens of a text.

        Raises:
            LabError: a character is not among the symbols.
        """
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        tokens = np.searchsorted(self._points, points).clip(max=self.size - 1)
        unknown = sorted({chr(p) for p in points[self._points[tokens] != points]})
        check(
            not unknown,
            f"this network knows {self.size} characters, and not {', '.join(map(repr, unknown))}",
        )
        return tokens.tolist()

    def decode(self, tokens: Iterable[int]) -> str:
        """The text."""
        return "".join(self.symbols[token] for token in tokens)

    def stream(self, tokens: Iterable[int]) -> Iterator[str]:
        """The text, token by token."""
        return (self.symbols[token] for token in tokens)

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"kind": "characters", "symbols": self.symbols}


class BytePairs:
    """Byte-level BPE (Sennrich 2016; Radford 2019): 256 bytes, then the pairs merged, in order.

    Args:
        merges: pairs of tokens; the k-th becomes token 256 + k. Earlier ones are applied first.
        alphabet: the bytes in the order of their tokens; GPT-2 has printable ones first.
        special: tokens after the last merge that no text is encoded to, such as <|endoftext|>.
    """

    def __init__(
        self,
        merges: Sequence[tuple[int, int]],
        alphabet: bytes = bytes(range(256)),
        special: int = 0,
    ) -> None:
        self.merges = [(int(a), int(b)) for a, b in merges]
        self.alphabet, self.special = alphabet, special
        self.bytes = [alphabet[k : k + 1] for k in range(256)]
        for a, b in self.merges:
            self.bytes.append(self.bytes[a] + self.bytes[b])
        self.bytes += [b""] * special
        self.size = len(self.bytes)
        self._first = {byte: token for token, byte in enumerate(alphabet)}
        self._ranks = {pair: 256 + k for k, pair in enumerate(self.merges)}
        self._word = lru_cache(maxsize=1 << 16)(self._merge)  # a text has few different words

    @classmethod
    def train(cls, text: str, size: int) -> "BytePairs":
        """Merge the pair that is most frequent, the smaller tokens first among equals, again and
        again until there are `size` tokens or no pair is left that occurs twice.

        Works on the different words with their counts; after a merge only the words that held the
        pair are counted anew.
        """
        counts = Counter(PIECES.findall(text))
        words = [list(word.encode()) for word in counts]
        weights = list(counts.values())
        frequency: Counter[tuple[int, int]] = Counter()
        where: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
        for index, (word, weight) in enumerate(zip(words, weights, strict=True)):
            for pair in itertools.pairwise(word):
                frequency[pair] += weight
                where[pair].add(index)
        queue = [(-count, pair) for pair, count in frequency.items()]
        heapq.heapify(queue)
        merges: list[tuple[int, int]] = []
        while queue and len(merges) < size - 256:
            count, pair = heapq.heappop(queue)
            if -count != frequency[pair]:  # it was counted anew since, and stands there again
                continue
            if -count < 2:
                break
            token = 256 + len(merges)
            merges.append(pair)
            changed = set()
            for index in where.pop(pair):
                word, weight = words[index], weights[index]
                for old in itertools.pairwise(word):
                    frequency[old] -= weight
                    changed.add(old)
                words[index] = word = merged(word, pair, token)
                for new in itertools.pairwise(word):
                    frequency[new] += weight
                    where[new].add(index)
                    changed.add(new)
            for one in changed:
                if frequency[one] > 0:
                    heapq.heappush(queue, (-frequency[one], one))
        return cls(merges)

    @classmethod
    def from_gpt2(cls, folder: Path) -> "BytePairs":
        """GPT-2's own, from its vocab.json and merges.txt.

        Raises:
            LabError: a file is missing, or its tokens are not numbered in the order of the merges.
        """
        try:
            vocabulary = json.loads((folder / "vocab.json").read_text("utf-8"))
            lines = (folder / "merges.txt").read_text("utf-8").splitlines()
            byte_of = {symbol: byte for byte, symbol in printable_bytes().items()}
            alphabet = bytes(byte_of[s] for s in sorted(byte_of, key=vocabulary.__getitem__))
            pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
            merges = [(vocabulary[a], vocabulary[b]) for a, b in pairs]
            fits = all(vocabulary[a + b] == 256 + k for k, (a, b) in enumerate(pairs))
        except OSError as error:
            raise LabError(f"{folder} lacks {Path(error.filename).name} of GPT-2") from None
        except (ValueError, KeyError, AttributeError):
            raise LabError(f"vocab.json and merges.txt in {folder} are not GPT-2's") from None
        check(fits, f"the tokens of {folder} are not numbered in the order of its merges")
        return cls(merges, alphabet, special=len(vocabulary) - 256 - len(merges))

    def encode(self, text: str) -> list[int]:
        """Tokens of a text; any text has some."""
        return [token for word in PIECES.findall(text) for token in self._word(word)]

    def _merge(self, word: str) -> tuple[int, ...]:
        """Apply merges, always the earliest learned of those that are possible."""
        tokens = [self._first[byte] for byte in word.encode("utf-8", "surrogatepass")]
        while len(tokens) > 1:
            pairs = itertools.pairwise(tokens)
            pair = min(pairs, key=lambda pair: self._ranks.get(pair, self.size))
            if pair not in self._ranks:
                break
            tokens = merged(tokens, pair, self._ranks[pair])
        return tuple(tokens)

    def decode(self, tokens: Iterable[int]) -> str:
        """The text; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self.bytes[token] for token in tokens).decode("utf-8", "replace")

    def stream(self, tokens: Iterable[int]) -> Iterator[str]:
        """The text as tokens come; a character appears with the last of its bytes."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token in tokens:
            yield decoder.decode(self.bytes[token])
        yield decoder.decode(b"", final=True)

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {
            "kind": "bpe",
            "merges": [list(pair) for pair in self.merges],
            "alphabet": list(self.alphabet),
            "special": self.special,
        }


def merged(word: Sequence[int], pair: tuple[int, int], token: int) -> list[int]:
    """`word` with `token` in the place of each `pair`, from the left."""
    found, index = [], 0
    while index < len(word):
        if index + 1 < len(word) and (word[index], word[index + 1]) == pair:
            found.append(token)
            index += 2
        else:
            found.append(word[index])
            index += 1
    return found


def printable_bytes() -> dict[int, str]:
    """The character that stands for each byte in GPT-2's files: itself where that can be seen."""
    seen = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {**{b: chr(b) for b in seen}, **{b: chr(256 + k) for k, b in enumerate(hidden)}}


Tokenizer = Characters | BytePairs  # both: size, encode, decode, stream, state


def restored(state: dict[str, Any]) -> Tokenizer:
    """The tokenizer whose `state` a checkpoint kept."""
    if state["kind"] == "characters":
        return Characters(state["symbols"])
    merges = [(a, b) for a, b in state["merges"]]
    return BytePairs(merges, bytes(state["alphabet"]), state["special"])
