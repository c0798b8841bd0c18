"""What the cache of keys and values buys, and that it changes no token."""

import statistics
import time

import torch

from language_model.config import CacheConfig
from language_model.model import Gpt, Shape, store_by_columns
from language_model.sampling import generate
from trainloop import Run

VOCABULARY = 77


def cache(config: CacheConfig) -> dict[str, float | int | None]:
    """Write the same tokens with and without the cache, in turns; compare tokens and seconds.

    The network is one that `train` could make, with random weights: time does not depend on them.

    Raises:
        LabError: nothing to resume.
    """
    config = Run.options("language-model", config, "cache")
    run = Run.open("language-model", config, "cache")
    run.resume()
    torch.set_num_threads(config.threads)
    model = store_by_columns(random_model(config).to(run.device))
    seconds: dict[bool, list[float]] = {True: [], False: []}
    differing = 0
    for turn in range(config.rounds):
        written = {}
        for cached in (True, False):
            begin = time.perf_counter()
            written[cached] = list(
                generate(model, [0], config.steps, 1.0, seed=config.seed + turn, cache=cached)
            )
            seconds[cached].append(time.perf_counter() - begin)
        differing += sum(a != b for a, b in zip(written[True], written[False], strict=True))
    ratios = [slow / fast for fast, slow in zip(seconds[True], seconds[False], strict=True)]
    run.log(
        config.steps,
        speedup=statistics.median(ratios),
        tokens_differing=differing,
        ms_a_token_cached=1e3 * statistics.median(seconds[True]) / config.steps,
        ms_a_token_uncached=1e3 * statistics.median(seconds[False]) / config.steps,
    )
    print(
        f"{config.steps} tokens, {config.rounds} rounds, threads {config.threads}: "
        f"{statistics.median(ratios):.1f} times as fast ({min(ratios):.1f} to {max(ratios):.1f}), "
        f"{differing} tokens differ"
    )
    return run.finish()


def random_model(config: CacheConfig) -> Gpt:
    """A network of the size asked for with a context that holds all tokens, no weight of it 0."""
    model = Gpt(
        Shape(
            vocabulary=VOCABULARY, block=config.steps + 1, layers=config.layers,
            heads=config.heads, width=config.width, ngrams=3, buckets=4096,
        )
    )  # fmt: skip
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()
