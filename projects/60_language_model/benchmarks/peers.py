# /// script
# requires-python = "==3.12.*"
# dependencies = [
#     "accelerate>=1.10",
#     "language-model",
#     "torch<2.8",
#     "trainloop",
#     "transformers>=4.57",
# ]
# [tool.uv.sources]
# language-model = { path = "..", editable = true }
# trainloop = { path = "../../../shared", editable = true }
# ///
"""What does the same CPU time buy elsewhere? transformers' GPT-2 of the same shape, two ways.

    uv run --script projects/60_language_model/benchmarks/peers.py

Each contestant trains in a process of its own, on one thread, for the same CPU seconds of that
process, on the same plays as characters; the same function scores it on the first 40,000 characters
of each test play. The rules:

- What counts is the training: forward, backward, optimiser, fetching windows. What does not:
  imports, reading the plays, building the model, scoring.
- Every learning-rate schedule ends when the budget does: the plain loops' follow the clock,
  Trainer's a calibration just before.
- The shape is ours: 4 layers, 4 heads, 128 features, 64 characters, no dropout. transformers'
  GPT-2 has its own positions, norms, activation and tied head; AdamW at 1e-3, batches of 12, which
  is what reached 1.79 nats in earlier experiments (batch 24 at `--peer-batch 24`).
- Contestants take turns; a second one may run on the second core (`--jobs 2`).

Results are appended to peers.jsonl as they come, and a rerun skips what is there: delete a line to
have it measured again.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from language_model.config import TrainConfig
from language_model.data import Windows, encode, load_corpus, make_tokenizer
from language_model.evaluate import scores
from language_model.model import Gpt, Shape
from language_model.optimizer import clip, make_optimizers
from trainloop import LabError, entry_point, parse, warmup_cosine
from trainloop.paths import workspace_root

LOOK = 40_000  # characters of each test play
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    budgets: tuple[float, ...] = (180.0, 300.0)
    """CPU seconds of training."""
    only: tuple[str, ...] = ()
    """Contestants by their short names; all if left out."""
    seeds: tuple[int, ...] = (0,)
    """Of weights and order; the table gives means."""
    jobs: int = 2
    """Contestants at a time, one thread each."""
    peer_batch: int = 12
    """Windows a step of transformers' GPT-2."""
    peer_lr: float = 1e-3
    """Its learning rate."""
    out: Path = workspace_root() / "runs/benchmarks/language-model-peers"
    """Folder for peers.jsonl, peers.md and logs."""
    smoke: bool = False
    """Check that everything runs: a budget of 4 seconds, in a folder of its own."""
    here: bool = False
    """Run in this process: how the subprocesses are called."""


class Trained(NamedTuple):
    """A contestant whose time is up."""

    model: nn.Module  # with `shape.block`, logits (B, T, V) of tokens (B, T)
    steps: int
    tokens: int  # trained on
    seconds: float  # CPU time of the training


class Theirs(nn.Module):
    """transformers' GPT-2 with our manners."""

    def __init__(self, vocabulary: int, config: TrainConfig) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        self.inner = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=vocabulary, n_positions=config.block, n_embd=config.width,
                n_layer=config.layers, n_head=config.heads, bos_token_id=0, eos_token_id=0,
                resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
            )
        )  # fmt: skip
        self.shape = SimpleNamespace(block=config.block)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.inner(tokens).logits


# --- the contestants ---------------------------------------------------------------------------


def plain_loop(
    model: nn.Module, optimizers: list[torch.optim.Optimizer], windows: Windows, budget: float,
    config: TrainConfig, parts: int = 1,
) -> Trained:  # fmt: skip
    """The loop of `train` without its books; the schedule follows the clock."""
    model.train()
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    begin, spent, step, tokens = time.process_time(), 0.0, 0, 0
    while spent < budget:
        step += 1
        factor = max(1e-3, warmup_cosine(round(1e6 * spent / budget), 10**6, config.warmup, 0.0))
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            for group, lr in zip(optimizer.param_groups, peak, strict=True):
                group["lr"] = lr * factor
        batch = windows.at(step)
        for part in batch.chunk(parts):
            loss = F.cross_entropy(model(part[:, :-1]).flatten(0, 1), part[:, 1:].flatten())
            (loss * len(part) / len(batch)).backward()
        clip(model.parameters(), config.clip)  # torch's clip_grad_norm_ knows no sparse gradients
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        tokens += batch[:, 1:].numel()
        spent = time.process_time() - begin
    return Trained(model, step, tokens, spent)


def ours(options: Options, tokens: Tensor, vocabulary: int, budget: float, seed: int) -> Trained:
    """This project's network and optimisers with the defaults of `train`."""
    return train_ours(TrainConfig(), tokens, vocabulary, budget, seed)


def single(options: Options, tokens: Tensor, vocabulary: int, budget: float, seed: int) -> Trained:
    """The same without n-grams: as many parameters as GPT-2 has."""
    return train_ours(TrainConfig(ngrams=1, lr_rest=2e-3), tokens, vocabulary, budget, seed)


def train_ours(
    config: TrainConfig, tokens: Tensor, vocabulary: int, budget: float, seed: int
) -> Trained:
    chosen = {field.name for field in fields(Shape)} - {"vocabulary"}
    shape = {name: value for name, value in asdict(config).items() if name in chosen}
    model = Gpt(Shape(vocabulary=vocabulary, **shape))
    optimizers = make_optimizers(
        model, config.optimizer, config.lr, config.lr_rest, config.weight_decay, config.lr_rows
    )
    windows = Windows(tokens, config.block, config.batch_size, seed)
    found = list(optimizers.values())
    return plain_loop(model, found, windows, budget, config, config.accumulate)


def gpt2(options: Options, tokens: Tensor, vocabulary: int, budget: float, seed: int) -> Trained:
    """transformers' GPT2LMHeadModel in the same plain loop, with AdamW."""
    config = TrainConfig()
    model = Theirs(vocabulary, config)
    optimizer = torch.optim.AdamW(model.parameters(), options.peer_lr, (0.9, 0.95), fused=True)
    windows = Windows(tokens, config.block, options.peer_batch, seed)
    return plain_loop(model, [optimizer], windows, budget, config)


def trainer(options: Options, tokens: Tensor, vocabulary: int, budget: float, seed: int) -> Trained:
    """The same network by transformers' Trainer, as its examples use it."""
    import tempfile

    from transformers import Trainer, TrainerCallback, TrainingArguments

    config = TrainConfig()
    rows = tokens.unfold(0, config.block, config.block)

    class Rows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: int) -> dict[str, Tensor]:
            return {"input_ids": rows[index], "labels": rows[index]}

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.times.append(time.process_time())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.times.append(time.process_time())

    def fit(steps: int) -> tuple[Theirs, list[float]]:
        model, clock = Theirs(vocabulary, config), Clock()
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder, max_steps=steps, per_device_train_batch_size=options.peer_batch,
                learning_rate=options.peer_lr, lr_scheduler_type="cosine",
                warmup_steps=round(config.warmup * steps), adam_beta2=0.95, weight_decay=0.01,
                save_strategy="no", report_to="none", use_cpu=True, seed=seed,
                disable_tqdm=True,
            )  # fmt: skip
            Trainer(model.inner, arguments, train_dataset=Rows(), callbacks=[clock]).train()
        return model, clock.times

    probe = max(4, min(60, round(budget / 5)))
    times = fit(2 * probe)[1]
    steps = max(2, round(budget * probe / (times[-1] - times[probe])))  # the first half warms up
    model, times = fit(steps)
    return Trained(model, steps, steps * options.peer_batch * config.block, times[-1] - times[0])


CONTESTANTS = {
    "ours": (ours, "ours"),
    "single": (single, "ours without n-grams"),
    "gpt2": (gpt2, "transformers' GPT-2, plain loop"),
    "trainer": (trainer, "transformers' GPT-2, Trainer"),
}


def compete(options: Options) -> dict[str, Any]:
    """Train one contestant and score it."""
    name, budget, seed = options.only[0], options.budgets[0], options.seeds[0]
    corpus = load_corpus("shakespeare")
    tokenizer = make_tokenizer(TrainConfig(), corpus)
    tokens = encode(tokenizer, corpus.train)
    torch.manual_seed(seed)
    trained = CONTESTANTS[name][0](options, tokens, tokenizer.size, budget, seed)
    look = 2000 if options.smoke else LOOK
    found = scores(trained.model, tokenizer, [t[:look] for t in corpus.test.values()], CPU)
    return {
        "name": name,
        "budget": budget,
        "seed": seed,
        "parameters": sum(p.numel() for p in trained.model.parameters()),
        "cpu_seconds": trained.seconds,
        "steps": trained.steps,
        "ms": 1e3 * trained.seconds / trained.steps,
        "tokens_per_second": trained.tokens / trained.seconds,
        "loss": found["loss"],
        "torch": torch.__version__,
    }


# --- the tournament ----------------------------------------------------------------------------


def results(out: Path) -> list[dict[str, Any]]:
    """What was measured so far."""
    path = out / "peers.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: means over seeds, in brackets the ratio to ours or what is more than ours."""
    lines = [
        "| CPU budget | contestant | seeds | parameters | CPU s | steps | ms a step "
        "| characters/s | test nats a character |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["budget"], row["name"]), []).append(row)
    order = list(CONTESTANTS)

    def mean(group: list[dict[str, Any]], key: str) -> float:
        return statistics.fmean(row[key] for row in group)

    for budget, name in sorted(groups, key=lambda key: (key[0], order.index(key[1]))):
        own, first = groups[budget, name], groups.get((budget, "ours"))
        speed, loss = f"{mean(own, 'tokens_per_second'):,.0f}", f"{mean(own, 'loss'):.3f}"
        if len(own) > 1:
            loss += f" ± {statistics.stdev(row['loss'] for row in own):.3f}"
        if first and name != "ours":
            ratio = mean(own, "tokens_per_second") / mean(first, "tokens_per_second")
            speed += f" ({ratio:.2f}x)"
            loss += f" ({mean(own, 'loss') - mean(first, 'loss'):+.3f})"
        cells = [
            f"{budget:g} s", CONTESTANTS[name][1], f"{len(own)}", f"{own[0]['parameters']:,}",
            f"{mean(own, 'cpu_seconds'):.0f}", f"{mean(own, 'steps'):,.0f}",
            f"{mean(own, 'ms'):.0f}", speed, loss,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


@entry_point
def main() -> None:
    options = parse(Options, __doc__)
    if unknown := set(options.only) - set(CONTESTANTS):
        raise LabError(f"--only {' '.join(unknown)}: take from {', '.join(CONTESTANTS)}")
    out = (options.out / "smoke" if options.smoke and not options.here else options.out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    if options.here:
        result = compete(options)
        with (out / "peers.jsonl").open("a") as file:
            file.write(json.dumps(result) + "\n")
        return
    budgets = (4.0,) if options.smoke else options.budgets
    if options.smoke:
        (out / "peers.jsonl").unlink(missing_ok=True)
    load_corpus("shakespeare")  # fetched once, and on nobody's clock
    done = {(row["name"], row["budget"], row["seed"]) for row in results(out)}
    matches = [(name, budget, seed) for seed in options.seeds for budget in budgets
               for name in options.only or CONTESTANTS
               if (name, budget, seed) not in done]  # fmt: skip

    def play(match: tuple[str, float, int]) -> bool:
        name, budget, seed = match
        log = out / f"{name}-{budget:g}s-seed{seed}.log"
        command = [sys.executable, __file__, "--here", "--only", name, "--budgets", str(budget),
                   "--seeds", str(seed), "--out", str(out), "--peer-batch", str(options.peer_batch),
                   "--peer-lr", str(options.peer_lr)]  # fmt: skip
        command += ["--smoke"] if options.smoke else []
        with log.open("w") as file:
            code = subprocess.run(
                command, stdout=file, stderr=subprocess.STDOUT, check=False,
                env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            ).returncode  # fmt: skip
        said = "done" if code == 0 else f"failed, see {log}"
        print(f"{name}, {budget:g} s, seed {seed}: {said}", file=sys.stderr, flush=True)
        return code == 0

    with ThreadPoolExecutor(options.jobs) as pool:
        complete = all(list(pool.map(play, matches)))
    text = table(results(out))
    (out / "peers.md").write_text(text)
    print(text)
    if not complete:
        raise LabError("some contestants failed; the others are kept: mend it and run again")


if __name__ == "__main__":
    main()
