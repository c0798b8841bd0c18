"""A small text and small networks that are always there."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import language_model.data
import language_model.figures
import language_model.train
from language_model.config import TrainConfig
from language_model.model import Gpt, Shape
from language_model.oracle import libraries, write_gpt2_files
from language_model.tokenizer import BytePairs

SMALL = TrainConfig(
    steps=6, batch_size=4, block=16, layers=2, heads=2, width=16, ngrams=3, buckets=64,
    eval_every=3, pictures=False,
)  # fmt: skip


def play(name: str) -> str:
    """Some lines that repeat with changes; no two plays are the same."""
    words = f"{name} speaks to thee of love and war when night is come".split()
    lines = [" ".join(words[(i * k) % len(words)] for k in range(1, 8)) for i in range(40)]
    return "\n".join(f"{name.upper()}:\n{line}." for line in lines) + "\n"


@pytest.fixture
def runs(monkeypatch, tmp_path) -> Path:
    """Where this test's run folders go."""
    monkeypatch.setenv("LAB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs/language-model"


@pytest.fixture
def plays(monkeypatch, runs) -> dict[str, str]:
    """Takes the place of Shakespeare's; also sets `runs`. Samples on the way are short."""
    held_out = (*language_model.data.VALIDATION, *language_model.data.TEST)
    small = {title: play(title.split()[0]) for title in ("Romeo", "Juliet", *held_out)}
    monkeypatch.setattr(language_model.data, "load_text", lambda name: small)
    monkeypatch.setattr(language_model.train, "SAMPLE", 5)
    monkeypatch.setattr(language_model.figures, "WRITTEN", 20)
    monkeypatch.setattr(language_model.figures, "PASSAGE", 150)
    return small


@pytest.fixture(scope="session")
def make_model():
    """A network with random weights, none of them 0."""

    def make(seed: int = 0, **options) -> Gpt:
        shape = {"vocabulary": 11, "block": 16, "layers": 2, "heads": 2, "width": 16,
                 "ngrams": 3, "buckets": 64}  # fmt: skip
        torch.manual_seed(seed)
        model = Gpt(Shape(**{**shape, **options}))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def gpt2_files(tmp_path_factory) -> Path:
    """A tiny GPT-2 as transformers writes it, with its tokenizer's files."""
    transformers, _ = libraries()
    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = BytePairs.train(play("Romeo"), 300)
    gpt2_order = bytes(sorted(range(256), key=lambda byte: (not 33 <= byte <= 126, byte)))
    place = {byte: token for token, byte in enumerate(gpt2_order)}
    merges = [tuple(place[t] if t < 256 else t for t in pair) for pair in tokenizer.merges]
    tokenizer = BytePairs(merges, gpt2_order, special=1)
    write_gpt2_files(tokenizer, folder)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=tokenizer.size, n_positions=32, n_embd=16, n_layer=2, n_head=2
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def small(plays):
    """Options of a training of a second on the small plays."""

    def make(**options) -> TrainConfig:
        return replace(SMALL, **options)

    return make
