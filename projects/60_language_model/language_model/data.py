"""Text as one tensor of tokens, split so that what is held out is unseen."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from language_model.config import TrainConfig
from language_model.hub import gpt2_folder
from language_model.tokenizer import BytePairs, Characters, Tokenizer
from trainloop import Batches, check, load_text
from trainloop.batches import mix

# Whole plays: lines of one play share names and turns of phrase. Two genres in each pair.
VALIDATION = ("Macbeth", "Twelfth Night")
TEST = ("As You Like It", "Julius Caesar")


@dataclass(frozen=True)
class Corpus:
    """Documents by title, in three splits that share none."""

    train: dict[str, str]
    val: dict[str, str]
    test: dict[str, str]

    @property
    def all_text(self) -> str:
        """Everything, for the set of characters only."""
        parts = (self.train, self.val, self.test)
        return "\n\n".join(text for part in parts for text in part.values())


def load_corpus(data: str, overfit: int = 0) -> Corpus:
    """The plays, or a .txt of one's own in the order 90% train, 5% val, 5% test.

    Args:
        overfit: train, validate and test on this many characters from the beginning alone.

    Raises:
        LabError: the file is not there, is no UTF-8, or is empty.
    """
    if data == "shakespeare":
        plays = load_text("shakespeare")
        held_out = (*VALIDATION, *TEST)
        corpus = Corpus(
            {title: text for title, text in plays.items() if title not in held_out},
            {title: plays[title] for title in VALIDATION},
            {title: plays[title] for title in TEST},
        )
    else:
        corpus = split_text(read_text(Path(data)), Path(data).stem)
    if overfit:
        passage = "\n\n".join(corpus.train.values())[:overfit]
        return Corpus(*[{f"{overfit} characters": passage}] * 3)
    return corpus


def read_text(path: Path) -> str:
    """A UTF-8 text that is not empty; LabError otherwise."""
    check(
        path.suffix == ".txt" and path.is_file(),
        f"--data must be shakespeare or a .txt that is there, not {path}",
    )
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        check(False, f"{path} is not UTF-8: convert it, `iconv -t utf-8`")
    check(bool(text.strip()), f"{path} is empty")
    return text


def split_text(text: str, title: str) -> Corpus:
    """The first 90% to train, the next 5% to validate, the last to test, cut at ends of lines.

    Raises:
        LabError: one of them is empty.
    """
    cuts = [0]
    for share in (0.90, 0.95):
        after = text.find("\n", int(share * len(text))) + 1
        cuts.append(max(cuts[-1], after or int(share * len(text))))
    parts = [text[a:b] for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]
    check(
        all(part.strip() for part in parts),
        f"{title} is too short to train on, validate and test: {len(text):,} characters",
    )
    return Corpus(*({title: part} for part in parts))


def make_tokenizer(config: TrainConfig, corpus: Corpus) -> Tokenizer:
    """As `--tokens` says. Characters know all splits, a BPE is learned from the train split.

    Raises:
        LabError: GPT-2's files cannot be had.
    """
    if config.tokens == "gpt2":
        return BytePairs.from_gpt2(gpt2_folder(config.gpt2, weights=False))
    if config.tokens == "bpe":
        return BytePairs.train("\n\n".join(corpus.train.values()), config.vocabulary)
    return Characters.of(corpus.all_text + "\n")


def encode(tokenizer: Tokenizer, documents: dict[str, str]) -> Int64[Tensor, " N"]:
    """All documents in one row, blank lines between them."""
    return torch.tensor(tokenizer.encode("\n\n".join(documents.values())))


class Windows:
    """Stretches of `block` + 1 tokens, looked up by step.

    An epoch is cut into windows that do not overlap, in random order and, each step, from a random
    place on: no token comes twice before every one came about once.

    Raises:
        LabError: the text is shorter than a window.
    """

    def __init__(self, tokens: Int64[Tensor, " N"], block: int, batch_size: int, seed: int) -> None:
        check(
            len(tokens) > block,
            f"the text has {len(tokens):,} tokens to train on, too few for a context of "
            f"--block {block}: take a longer text or a smaller block",
        )
        self._rows = tokens.unfold(0, block + 1, 1)  # a view: row i begins at token i
        self._block, self._seed = block, seed
        count = -(-len(self._rows) // block)  # the last one is short of places and begins anew
        self._batches = Batches(count, batch_size, seed)

    def at(self, step: int) -> Int64[Tensor, "B T"]:
        """The windows of step 1, 2, ..."""
        begin = self._batches.at(step) * self._block + mix(self._seed, step) % self._block
        return self._rows[begin % len(self._rows)]
