"""What one does with a trained network: sample, evaluate, look."""

import math
import sys
from pathlib import Path

from language_model.config import EvaluateConfig, LookConfig, SampleConfig
from language_model.data import load_corpus, read_text
from language_model.evaluate import scores
from language_model.figures import draw_all, passage
from language_model.model import store_by_columns
from language_model.sampling import generate
from language_model.trained import load_trained
from trainloop import check


def sample(config: SampleConfig) -> None:
    """Print the prompt and what comes after it, as it comes.

    Raises:
        LabError: no network, or a prompt that it cannot read.
    """
    trained = load_trained(config)
    store_by_columns(trained.model)
    prompt = unescaped(config.prompt)
    tokens = trained.tokenizer.encode(prompt)
    written = generate(
        trained.model, tokens, config.tokens, config.temperature, config.top_k, config.top_p,
        config.seed, config.cache,
    )  # fmt: skip
    sys.stdout.write(prompt)
    for piece in trained.tokenizer.stream(written):
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


def evaluate(config: EvaluateConfig) -> dict[str, float]:
    """Print loss, perplexity and bits a character of a split, or of another text.

    Raises:
        LabError: no network, or a text that is not there or that it cannot read.
    """
    trained = load_trained(config)
    if config.data:
        texts = {Path(config.data).stem: read_text(Path(config.data))}
    else:
        texts = getattr(load_corpus(trained.data), config.split)
    found = scores(trained.model, trained.tokenizer, texts.values(), trained.device)
    print(f"{', '.join(texts)}: {sum(map(len, texts.values())):,} characters")
    print(f"loss {found['loss']:.4f} nats a token")
    print(f"perplexity {found['perplexity']:.2f}")
    nats = found["bits_per_character"] * math.log(2)
    print(f"bits a character {found['bits_per_character']:.4f} ({nats:.4f} nats)")
    return found


def look(config: LookConfig) -> None:
    """Draw attention, surprise and sampling of a network into a folder.

    Raises:
        LabError: no network, or a text that it cannot read.
    """
    trained = load_trained(config)
    text, prompt = unescaped(config.text), unescaped(config.prompt)
    if not text:
        text = passage(load_corpus(trained.data))
    check(len(text) > 1, "--text must have at least two characters")
    config.out.mkdir(parents=True, exist_ok=True)
    draw_all(config.out, trained, text, prompt)
    print(f"attention.png, surprise.png, surprise.html and sampling.png in {config.out}")


def unescaped(text: str) -> str:
    r"""A line end for each \n, which a shell's argument rarely holds."""
    return text.replace("\\n", "\n")
