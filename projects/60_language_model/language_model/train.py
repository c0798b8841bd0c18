"""Train a GPT from nothing: the whole loop, top to bottom."""

import math
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn import functional as F

from language_model.baselines import KneserNey
from language_model.config import DataOptions, TrainConfig
from language_model.data import Corpus, Windows, encode, load_corpus, make_tokenizer
from language_model.evaluate import document, scores
from language_model.figures import draw_all, draw_progress, passage
from language_model.lora import Adapters
from language_model.model import Gpt, Shape
from language_model.optimizer import clip, make_optimizers
from language_model.sampling import generate
from language_model.tokenizer import Tokenizer
from language_model.trained import Kept, Trained
from trainloop import Ema, Run, atomic_write, warmup_cosine

LOOK = 10_000  # characters of each validation document that are scored on the way
SAMPLE = 200  # tokens written at each look
NGRAM = 6  # characters: more do not help with 4.5 million (README)


@dataclass(frozen=True)
class Texts:
    """What a training reads.

    Attributes:
        windows: of the train split, by step.
        block: tokens of context in a window.
    """

    corpus: Corpus
    tokenizer: Tokenizer
    windows: Windows
    block: int


def train(config: TrainConfig) -> dict[str, float | int | None]:
    """Train, look at validation text on the way, test once at the end, draw.

    Raises:
        LabError: nothing to resume, or the text is missing, too short or no longer the same.
    """
    config = Run.options("language-model", config)
    corpus = load_corpus(config.data, config.overfit)
    tokenizer = make_tokenizer(config, corpus)
    tokens = encode(tokenizer, corpus.train)
    windows = Windows(tokens, config.block, config.batch_size, config.seed)
    run = Run.open("language-model", config)

    chosen = {field.name for field in fields(Shape)} - {"vocabulary"}
    options = {name: value for name, value in asdict(config).items() if name in chosen}
    model = Gpt(Shape(vocabulary=tokenizer.size, **options)).to(run.device)
    optimizers = make_optimizers(
        model, config.optimizer, config.lr, config.lr_rest, config.weight_decay, config.lr_rows
    )
    model = fit(run, config, model, optimizers, Texts(corpus, tokenizer, windows, config.block))

    found = {}
    if config.test:
        texts = corpus.test.values()
        found = scores(model, tokenizer, texts, run.device) | counted(tokens, tokenizer, texts)
        run.log(run.total, **{f"test/{name}": value for name, value in found.items()})
    if config.pictures and run.is_main:
        run.picture("tokens", draw_progress(run.folder, config.batch_size * config.block, found))
        draw_all(run.folder, Trained(model, tokenizer, config.data, run.device), passage(corpus))
    return run.finish(
        parameters=sum(p.numel() for p in model.parameters()),
        tokens_seen=run.total * config.batch_size * config.block,
    )


def fit(
    run: Run,
    config: DataOptions,
    model: Gpt,
    optimizers: dict[str, torch.optim.Optimizer],
    texts: Texts,
    adapters: Adapters | None = None,
) -> Gpt:
    """The loop of `train` and `finetune`; returns the model to evaluate, which is the average
    where there is one."""
    ema = Ema(model, config.ema) if config.ema else None
    kept = ema.model if ema else model
    run.notes |= {"shape": asdict(model.shape)}
    states = {"model": adapters or model, "tokenizer": Kept(texts.tokenizer), **optimizers}
    start = run.resume(**states, **({"ema": ema} if ema else {}))
    net = run.parallel(model)
    model.train()
    for step in run.steps(start):
        factor = warmup_cosine(step, run.total, config.warmup, final=0.0)
        for optimizer in optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
        batch = run.shard(texts.windows.at(step).to(run.device))  # (B, T + 1)

        total = torch.zeros((), device=run.device)
        for part in batch.chunk(config.accumulate):
            with run.autocast():
                logits = net(part[:, :-1])  # (B, T, V)
            loss = F.cross_entropy(logits.flatten(0, 1).float(), part[:, 1:].flatten())
            share = len(part) / len(batch)
            run.scaler.scale(loss * share).backward()
            total += loss.detach() * share
        for optimizer in optimizers.values():
            run.scaler.unscale_(optimizer)
        norm = clip(model.parameters(), config.clip)
        for optimizer in optimizers.values():
            run.scaler.step(optimizer)
            optimizer.zero_grad()
        run.scaler.update()
        if ema:
            ema.update()

        run.log(step, loss=total, grad_norm=norm)
        if run.due(step, config.eval_every):
            heads = [text[:LOOK] for text in texts.corpus.val.values()]
            found = scores(kept, texts.tokenizer, heads, run.device, texts.block)
            run.log(step, **{f"val/{name}": value for name, value in found.items()})
            run.save(step, metric=-found["loss"])
            if run.is_main:
                write_sample(run, step, kept, texts.tokenizer)
            model.train()
    return kept.eval()


def write_sample(run: Run, step: int, model: Gpt, tokenizer: Tokenizer) -> None:
    """What the model writes after a line end, into the run's `samples/`."""
    text = tokenizer.decode(generate(model, tokenizer.encode("\n"), SAMPLE, seed=run.config.seed))
    (run.folder / "samples").mkdir(exist_ok=True)
    path = run.folder / "samples" / f"{step:06}.txt"
    atomic_write(path, lambda file: file.write(text.encode()))
    shown = " / ".join(line for line in text.splitlines() if line)[:100]
    print(f"\nstep {step}: {shown}", file=sys.stderr)


def counted(
    tokens: Int64[Tensor, " N"], tokenizer: Tokenizer, texts: Iterable[str]
) -> dict[str, float]:
    """What counting the train split gets on these texts, `bigram_loss` and `ngram_loss`."""
    found = {}
    for name, longest in (("bigram", 2), ("ngram", longest_ngram(tokenizer.size))):
        table = KneserNey(tokens, tokenizer.size, longest)
        before = tokenizer.encode("\n") * (longest - 2)
        found[f"{name}_loss"] = torch.cat([
            table.losses(torch.cat((torch.tensor(before, dtype=torch.long), one)))
            for one in (document(tokenizer, text, torch.device("cpu")) for text in texts)
        ]).mean().item()  # fmt: skip
    return found


def longest_ngram(vocabulary: int) -> int:
    """NGRAM, or as many tokens as can be numbered in 63 bits."""
    return min(NGRAM, int(62 / math.log2(vocabulary)))


if __name__ == "__main__":  # torchrun --nproc-per-node 2 -m language_model.train
    from language_model.cli import train as command

    command()
