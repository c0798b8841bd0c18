"""Characters and byte pairs."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from language_model.oracle import library_twin, token_differences
from language_model.tokenizer import PIECES, BytePairs, Characters, merged, restored
from trainloop import LabError

TEXT = "the cat sat on the mat; the rat sat on the cat's mat. naïve café, 3 mats\n\n  the end"


@pytest.fixture(scope="module")
def pairs() -> BytePairs:
    return BytePairs.train(TEXT * 3, 300)


@pytest.fixture(scope="module")
def twin(pairs):
    """The library's with the same merges."""
    return library_twin(pairs)


def slow_merges(text: str, size: int) -> list[tuple[int, int]]:
    """The definition: count all pairs anew after each merge."""
    words = Counter(PIECES.findall(text))
    split = {word: list(word.encode()) for word in words}
    merges = []
    while len(merges) < size - 256:
        counts = Counter()
        for word, tokens in split.items():
            for pair in pairwise(tokens):
                counts[pair] += words[word]
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        merges.append(best)
        split = {w: merged(tokens, best, 255 + len(merges)) for w, tokens in split.items()}
    return merges


@pytest.mark.parametrize("text", [TEXT, "aaaa aaa aa " * 3, "abababab cdcdcd abcd" * 2, "", "x"])
def test_training_is_what_counting_anew_would_do(text):
    assert BytePairs.train(text, 290).merges == slow_merges(text, 290)


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_comes_back_and_equals_the_library(text, pairs, twin):
    tokens = pairs.encode(text)
    assert pairs.decode(tokens) == text
    assert "".join(pairs.stream(tokens)) == text
    assert tokens == twin.encode(text).ids


def test_real_text_equals_the_library():
    assert token_differences(TEXT * 20, 400) == 0


def test_what_the_library_cannot_miss(monkeypatch):
    """The comparison itself sees a wrong token."""
    monkeypatch.setattr(BytePairs, "encode", lambda self, text: list(text.encode()))
    assert token_differences(TEXT, 300) > 0


def test_a_merge_shortens_and_never_crosses_a_word(pairs):
    assert len(pairs.encode(TEXT)) < len(TEXT) / 1.5
    for token in pairs.bytes[256:]:
        assert b" " not in token.lstrip()


@pytest.mark.parametrize("make", [lambda: Characters.of(TEXT), lambda: BytePairs.train(TEXT, 280)])
def test_state_restores_it(make):
    tokenizer = make()
    again = restored(tokenizer.state())
    assert again.encode(TEXT) == tokenizer.encode(TEXT)
    assert again.size == tokenizer.size


def test_characters():
    tokenizer = Characters.of("banana\n")
    assert tokenizer.symbols == "\nabn"
    assert tokenizer.encode("nab\n") == [3, 1, 2, 0]
    assert tokenizer.decode([3, 1, 2, 0]) == "nab\n"
    assert list(tokenizer.stream([1, 2])) == ["a", "b"]
    with pytest.raises(LabError, match="4 characters, and not 'x', 'é'"):
        tokenizer.encode("xébax")


def test_gpt2s_own_files(gpt2_files):
    tokenizer = BytePairs.from_gpt2(gpt2_files)
    from transformers import GPT2Tokenizer

    theirs = GPT2Tokenizer.from_pretrained(gpt2_files)
    for text in (TEXT, "Romeo speaks to thee", "  two\n\nlines "):
        assert tokenizer.encode(text) == theirs.encode(text)
    assert tokenizer.size == len(theirs)
    assert tokenizer.bytes[-1] == b""


@pytest.mark.parametrize("damage", ["missing", "renumbered", "not json"])
def test_gpt2_files_that_are_not(damage, gpt2_files, tmp_path):
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((gpt2_files / name).read_bytes())
    if damage == "missing":
        (tmp_path / "merges.txt").unlink()
    elif damage == "renumbered":
        lines = (tmp_path / "merges.txt").read_text().splitlines()
        (tmp_path / "merges.txt").write_text("\n".join([lines[0], *lines[:0:-1]]))
    else:
        (tmp_path / "vocab.json").write_text("{")
    with pytest.raises(LabError) as caught:
        BytePairs.from_gpt2(tmp_path)
    assert "\n" not in str(caught.value)
