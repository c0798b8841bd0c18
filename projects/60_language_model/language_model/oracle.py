"""Our GPT-2 and our byte pairs, held against transformers and tokenizers."""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from language_model.config import OracleConfig
from language_model.data import load_corpus
from language_model.gpt2 import load_gpt2, save_gpt2
from language_model.tokenizer import BytePairs, printable_bytes
from trainloop import LabError, Run

SIZES = {"vocab_size": 311, "n_positions": 64, "n_embd": 48, "n_layer": 3, "n_head": 4}
TEXT = 100_000  # characters


def oracle(config: OracleConfig) -> dict[str, float | int | None]:
    """Record the largest differences: the README's done-when holds them to their figures.

    Raises:
        LabError: transformers is not installed.
    """
    config = Run.options("language-model", config, "oracle")
    libraries()
    run = Run.open("language-model", config, "oracle")
    run.resume()
    logits = max(logit_difference(seed) for seed in range(config.steps))
    tokens = token_differences(load_corpus("shakespeare").train["Hamlet"][:TEXT])
    run.log(config.steps, logits=logits, tokens_differing=tokens)
    print(f"logits differ by {logits:.1e}, of {TEXT:,} characters {tokens} tokens differ")
    return run.finish()


def libraries() -> tuple[Any, Any]:
    """The two, which only tests and this command need."""
    try:
        import tokenizers
        import transformers
    except ImportError:
        raise LabError("this command needs transformers: `uv sync --all-packages`") from None
    return transformers, tokenizers


def logit_difference(seed: int) -> float:
    """The largest one of a random GPT-2 that transformers wrote, and of what we write back."""
    transformers, _ = libraries()
    torch.manual_seed(seed)
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**SIZES)).eval()
    for parameter in theirs.parameters():  # biases are 0 and gains 1: mistakes there would hide
        torch.nn.init.normal_(parameter, std=0.3)
    tokens = torch.randint(SIZES["vocab_size"], (2, SIZES["n_positions"]))
    with tempfile.TemporaryDirectory() as home:
        theirs.save_pretrained(Path(home) / "theirs")
        ours = load_gpt2(Path(home) / "theirs")
        save_gpt2(ours, Path(home) / "ours")
        back = transformers.GPT2LMHeadModel.from_pretrained(Path(home) / "ours").eval()
    return max(difference(model(tokens).logits, ours(tokens)) for model in (theirs, back))


def difference(a: Tensor, b: Tensor) -> float:
    """The largest absolute one."""
    return (a - b).abs().max().item()


def token_differences(text: str, size: int = 1000) -> int:
    """Tokens that differ from the library's, given the merges that we learned from the text."""
    ours = BytePairs.train(text, size)
    theirs = library_twin(ours).encode(text).ids
    found = ours.encode(text)
    return abs(len(found) - len(theirs)) + sum(a != b for a, b in zip(found, theirs, strict=False))


def library_twin(ours: BytePairs) -> Any:
    """The library's byte-level BPE with our merges."""
    _, tokenizers = libraries()
    symbol = printable_bytes()
    named = ["".join(symbol[byte] for byte in token) for token in ours.bytes]
    vocabulary = {name: token for token, name in enumerate(named)}
    merges = [(named[a], named[b]) for a, b in ours.merges]
    twin = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=merges))
    twin.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return twin


def write_gpt2_files(ours: BytePairs, folder: Path) -> None:
    """vocab.json and merges.txt as GPT-2 has them: how tests make a small one."""
    symbol = printable_bytes()
    named = ["".join(symbol[byte] for byte in token) for token in ours.bytes]
    vocabulary = {name: token for token, name in enumerate(named) if name}
    vocabulary |= {"<|endoftext|>": len(vocabulary)} if ours.special else {}
    lines = ["#version: 0.2", *(f"{named[a]} {named[b]}" for a, b in ours.merges)]
    (folder / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
