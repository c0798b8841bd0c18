"""The text, its windows, counting it, and measuring surprise."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from language_model.baselines import KneserNey
from language_model.data import TEST, VALIDATION, Windows, encode, load_corpus, split_text
from language_model.evaluate import document, losses, scores
from language_model.model import Gpt, Shape
from language_model.tokenizer import BytePairs, Characters
from trainloop import LabError


def test_plays_are_whole_and_in_one_split(plays):
    corpus = load_corpus("shakespeare")
    assert tuple(corpus.val) == VALIDATION
    assert tuple(corpus.test) == TEST
    assert corpus.train.keys() == plays.keys() - {*VALIDATION, *TEST}


def test_held_out_plays_exist():
    """With the names of the real data set."""
    from trainloop import load_text

    try:
        titles = load_text("shakespeare").keys()
    except LabError as error:
        pytest.skip(str(error).splitlines()[0])
    assert {*VALIDATION, *TEST} <= titles
    assert len(titles) == 38


def test_a_text_is_split_in_order_at_line_ends():
    text = "".join(f"line {k}\n" for k in range(200))
    corpus = split_text(text, "own")
    parts = [corpus.train["own"], corpus.val["own"], corpus.test["own"]]
    assert "".join(parts) == text
    assert all(part.endswith("\n") for part in parts)
    assert [round(len(part) / len(text), 2) for part in parts] == [0.9, 0.05, 0.05]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.txt", None, "must be shakespeare or a .txt"),
        ("table.csv", b"a,b", "must be shakespeare or a .txt"),
        ("latin.txt", "é".encode("latin-1") * 50, "not UTF-8"),
        ("empty.txt", b" \n", "is empty"),
        ("short.txt", b"short\n", "too short to train on"),
    ],
)
def test_texts_that_cannot_be_used(name, content, said, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(LabError, match=said) as caught:
        load_corpus(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_windows_follow_from_the_step_and_cover_the_text():
    tokens = torch.arange(1000)
    windows = Windows(tokens, block=16, batch_size=4, seed=3)
    first = windows.at(1)
    assert first.shape == (4, 17)
    assert (first.diff(dim=1) == 1).all(), "stretches of the text"
    assert torch.equal(windows.at(1), Windows(tokens, 16, 4, 3).at(1))
    assert not torch.equal(first, windows.at(2))
    epoch = torch.cat([windows.at(step)[:, 0] for step in range(1, 16)])  # 60 of 62 windows
    assert len((epoch // 16).unique()) > 35, "not drawn with replacement from a few places"
    begins = torch.cat([windows.at(step)[:, 0] for step in range(1, 2500)])
    assert torch.equal(begins.unique(), torch.arange(1000 - 16)), "to the last token"


@pytest.mark.parametrize("length", [17, 18, 40])
def test_windows_of_a_short_text(length):
    assert Windows(torch.arange(length), 16, 4, 0).at(5).max() < length
    with pytest.raises(LabError, match="16 tokens to train on, too few"):
        Windows(torch.arange(16), 16, 4, 0)


# --- evaluation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [2, 5, 9, 10, 16, 17, 40, 41])
def test_every_token_is_scored_once_with_enough_before_it(length, make_model):
    model = make_model()
    tokens = torch.randint(11, (length,))
    found = losses(model, tokens, block=8, batch=3)
    assert found.shape == (length - 1,)
    block = min(8, length - 1)
    last = length - 1 - block
    for index in range(length - 1):
        # The first window that holds it: later ones would give it less to go by.
        begins = [*range(0, last, block // 2 or 1), last]
        begin = min(b for b in begins if b <= index < b + block)
        logits = model(tokens[None, begin : index + 1])[0, -1]
        expected = F.cross_entropy(logits, tokens[index + 1])
        assert found[index].item() == pytest.approx(expected.item(), abs=1e-4)
        assert index - begin >= min(index, block // 2 - 1)


def test_bits_a_character_do_not_depend_on_the_tokens():
    """A network that guesses blindly among 2^k tokens has k bits a token."""

    model = Gpt(Shape(vocabulary=512, block=8, layers=1, heads=1, width=4))  # its head is 0
    text = "one two three two one\n"
    pairs = BytePairs.train(text * 4, 270)
    found = scores(model, pairs, [text, text], torch.device("cpu"))
    assert found["loss"] == pytest.approx(math.log(512))
    assert found["perplexity"] == pytest.approx(512, rel=1e-4)
    expected = 9 * len(pairs.encode(text)) / len(text)
    assert found["bits_per_character"] == pytest.approx(expected)


def test_a_document_begins_behind_a_line_end():
    tokenizer = Characters.of("ab\n")
    assert document(tokenizer, "ba", torch.device("cpu")).tolist() == [0, 2, 1]
    assert encode(tokenizer, {"x": "a", "y": "b"}).tolist() == [1, 0, 0, 2]


# --- counting ------------------------------------------------------------------------------------


def slow_kneser_ney(text: list[int], vocabulary: int, context: tuple, token: int, top: bool):
    """The definition, with sets and loops."""
    n = len(context) + 1
    grams = [tuple(text[k : k + n]) for k in range(len(text) - n + 1)]
    if top:
        counts = {gram: grams.count(gram) for gram in set(grams)}
    else:
        longer = {tuple(text[k : k + n + 1]) for k in range(len(text) - n)}
        counts = {gram: sum(one[1:] == gram for one in longer) for gram in {o[1:] for o in longer}}
    lower = (
        slow_kneser_ney(text, vocabulary, context[1:], token, False) if context else 1 / vocabulary
    )
    after = {gram: count for gram, count in counts.items() if gram[:-1] == context}
    if not after:
        return lower
    once, twice = (list(counts.values()).count(k) for k in (1, 2))
    discount = once / (once + 2 * twice) if once and twice else 0.5
    total = sum(after.values())
    own = max(after.get((*context, token), 0) - discount, 0) / total
    return own + discount * len(after) / total * lower


@pytest.mark.parametrize("longest", [1, 2, 3])
def test_kneser_ney_by_its_definition(longest):
    rng = np.random.default_rng(0)
    text = rng.choice(5, 80, p=[0.5, 0.2, 0.15, 0.1, 0.05]).tolist()
    model = KneserNey(torch.tensor(text), 6, longest)  # token 5 never came
    unseen = rng.integers(0, 6, 30).tolist()
    found = model.losses(torch.tensor(unseen)).exp().reciprocal()
    for index, probability in enumerate(found.tolist()):
        end = index + longest - 1
        context = tuple(unseen[index:end])
        expected = slow_kneser_ney(text, 6, context, unseen[end], True)
        assert probability == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("longest", [1, 2, 4])
def test_kneser_ney_sums_to_one(longest):
    torch.manual_seed(0)
    model = KneserNey(torch.randint(5, (300,)), 5, longest)
    context = torch.randint(5, (longest - 1,))
    rows = [torch.cat((context, torch.tensor([token]))) for token in range(5)]
    total = sum(model.losses(row).neg().exp().item() for row in rows)
    assert total == pytest.approx(1)


def test_more_context_counts_better_on_what_repeats():
    text = torch.tensor([0, 1, 2, 0, 2, 1] * 100)
    loss = [KneserNey(text, 3, n).losses(text).mean().item() for n in (1, 2, 3, 4)]
    assert loss[0] > loss[1] > loss[2] > loss[3]
    with pytest.raises(ValueError, match="too many to number"):
        KneserNey(text, 50_000, 5)
