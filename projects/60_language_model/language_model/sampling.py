"""Text from the network, token by token."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from language_model.model import Cache, Gpt
from trainloop import check


def filtered(
    logits: Float[Tensor, " V"], temperature: float, top_k: int = 0, top_p: float = 1.0
) -> Float[Tensor, " V"]:
    """Probabilities to draw from.

    Args:
        temperature: above 0; below 1 sharpens.
        top_k: all but the k likeliest get 0; 0 keeps all.
        top_p: the fewest likeliest that together reach this probability stay (Holtzman 2020).
    """
    probability = (logits.float() / temperature).softmax(-1)
    if not top_k and top_p == 1:
        return probability
    order = probability.argsort(descending=True, stable=True)
    kept = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
    if top_k:
        kept[order[top_k:]] = False
    if top_p < 1:
        ranked = probability[order] * kept[order]
        before = (ranked / ranked.sum()).cumsum(0) - ranked / ranked.sum()
        kept[order[before >= top_p]] = False
    probability = probability * kept
    return probability / probability.sum()


def context_start(length: int, block: int) -> int:
    """Where the context of the next token begins after `length` tokens.

    It grows until it is full and then loses its older half: so a cache must be filled anew once
    every half a block and not at every token.
    """
    half = max(1, block // 2)
    return 0 if length <= block else -(-(length - block) // half) * half


@torch.inference_mode()
def generate(
    model: Gpt,
    prompt: list[int],
    count: int,
    temperature: float = 0.8,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    cache: bool = True,
) -> Iterator[int]:
    """`count` tokens that go on from the prompt, as they are drawn.

    With the cache a new token costs one position, without it the whole context; the tokens are the
    same, as long as rounding does not decide between two.

    Raises:
        LabError: the prompt is empty.
    """
    check(len(prompt) > 0, "the prompt is empty: give at least one character")
    device = model.head.weight.device
    generator = torch.Generator(device).manual_seed(seed)
    tokens = list(prompt)
    memory, filled_from = None, -1
    model.eval()
    for _ in range(count):
        start = context_start(len(tokens), model.shape.block)
        if not cache:
            logits = model(torch.tensor([tokens[start:]], device=device))[0, -1]
        elif start != filled_from:
            memory, filled_from = Cache(model), start
            logits = model(torch.tensor([tokens[start:]], device=device), memory)[0, -1]
        else:
            logits = model(torch.tensor([tokens[-1:]], device=device), memory)[0, -1]
        if temperature == 0:
            token = int(logits.argmax())
        else:
            chances = filtered(logits, temperature, top_k, top_p)
            token = int(torch.multinomial(chances, 1, generator=generator))
        tokens.append(token)
        yield token
