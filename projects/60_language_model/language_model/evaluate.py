"""How surprised is the network? Nats, perplexity, and bits a character."""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from language_model.model import Gpt
from language_model.tokenizer import Tokenizer


@torch.no_grad()
def losses(
    model: Gpt, tokens: Int64[Tensor, " N"], block: int = 0, batch: int = 16
) -> Float[Tensor, " M"]:
    """-log P in nats of every token but the first, M = N - 1.

    Windows of `block` tokens overlap by half, and each token is scored where it has more behind
    it: at least half a block, but for the first ones.

    Args:
        block: the context, at most the model's; 0: the model's.
        batch: windows at a time; changes nothing but the speed.
    """
    block = min(block or model.shape.block, len(tokens) - 1)
    inputs, targets = tokens[:-1], tokens[1:]
    last = len(inputs) - block
    begins = [*range(0, last, max(1, block // 2)), last]
    found = torch.empty(len(inputs), device=tokens.device)
    done = 0
    training = model.training
    model.eval()
    for k in range(0, len(begins), batch):
        begin = torch.tensor(begins[k : k + batch], device=tokens.device)
        rows = begin[:, None] + torch.arange(block, device=tokens.device)  # (B, T)
        logits = model(inputs[rows]).float()
        loss = F.cross_entropy(logits.transpose(1, 2), targets[rows], reduction="none")  # (B, T)
        for start, row in zip(begins[k : k + batch], loss, strict=True):
            found[done : start + block] = row[done - start :]
            done = start + block
    model.train(training)
    return found


def document(tokenizer: Tokenizer, text: str, device: torch.device) -> Int64[Tensor, " N"]:
    """Tokens of a text behind a line end, so that its own first token can be scored too."""
    return torch.tensor([*tokenizer.encode("\n"), *tokenizer.encode(text)], device=device)


def scores(
    model: Gpt, tokenizer: Tokenizer, texts: Iterable[str], device: torch.device, block: int = 0
) -> dict[str, float]:
    """Of all texts together: `loss` (nats a token), `perplexity`, `bits_per_character`.

    The last is the one that may be compared between tokenisers: all bits over all characters.
    """
    nats, tokens, characters = 0.0, 0, 0
    for text in texts:
        loss = losses(model, document(tokenizer, text, device), block)
        nats += loss.double().sum().item()
        tokens += len(loss)
        characters += len(text)
    return {
        "loss": nats / tokens,
        "perplexity": math.exp(min(700.0, nats / tokens)),
        "bits_per_character": nats / math.log(2) / characters,
    }
