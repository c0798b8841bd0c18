"""Options of the commands; no torch here, so that `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainloop import RunOptions, check

Positions = Literal["rotary", "learned"]
Norm = Literal["layer", "rms"]
Activation = Literal["relu2", "gelu"]
Tokens = Literal["characters", "bpe", "gpt2"]
Optimizer = Literal["muon", "adamw"]


@dataclass(frozen=True, kw_only=True)
class DataOptions(RunOptions):
    """What every training reads, and how it goes about it."""

    data: str = "shakespeare"
    """`shakespeare` (38 plays; two to validate, two to test) or a .txt, split 90/5/5 in order."""
    batch_size: int = 24
    """Windows of `block` tokens a step, over all processes."""
    accumulate: int = 1
    """Parts that a batch is cut into, where memory is short; the gradient is the same."""
    warmup: float = 0.03
    """Share of the steps over which learning rates rise; then half a cosine down to 0."""
    weight_decay: float = 0.1
    """AdamW's and Muon's decay of matrices."""
    clip: float = 1.0
    """The gradient is cut to this norm; 0: never."""
    dropout: float = 0.0
    """Share of features dropped; of use once the text is seen several times."""
    ema: float = 0.0
    """Decay of the weights' moving average, which then is evaluated and kept; 0: none."""
    eval_every: int = 300
    """Steps between looks at the validation text, each with a sample."""
    pictures: bool = True
    """Draw attention, surprise and sampling at the end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("batch_size", "accumulate", "eval_every"):
            value = getattr(self, name)
            check(value >= 1, f"--{name.replace('_', '-')} must be at least 1, not {value}")
        for name in ("warmup", "dropout", "ema"):
            check(0 <= getattr(self, name) < 1, f"--{name} must be in [0, 1)")
        for name in ("weight_decay", "clip"):
            check(getattr(self, name) >= 0, f"--{name.replace('_', '-')} must not be negative")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(DataOptions):
    """A network from nothing: its shape, its tokens, its optimisers."""

    steps: int = 900
    """Optimiser steps of the whole run."""
    accumulate: int = 2
    """Parts that a batch is cut into; the gradient is the same. Halves are quicker on a CPU, whose
    cache then holds more of what a layer works on (README)."""
    tokens: Tokens = "characters"
    """Characters of the text; a byte-level BPE learned from it; or GPT-2's own."""
    vocabulary: int = 1024
    """Tokens of `--tokens bpe`, 256 bytes included."""
    gpt2: str = "gpt2"
    """Where `--tokens gpt2` has its files from: a name on the hub or a folder."""
    block: int = 64
    """Longest context in tokens."""
    layers: int = 4
    """Blocks of attention and MLP."""
    heads: int = 4
    """Heads of attention."""
    width: int = 128
    """Features of a token."""
    positions: Positions = "rotary"
    """GPT-2 learns an embedding for each position."""
    norm: Norm = "layer"
    """GPT-2 has LayerNorm."""
    activation: Activation = "relu2"
    """GPT-2 has GELU."""
    qk_norm: bool = True
    """Normalise queries and keys (Henry 2020); GPT-2 does not."""
    tied: bool = False
    """Use the token embedding as the head's matrix, as GPT-2 does."""
    bias: bool = False
    """Biases in linear layers and gains in norms, as GPT-2 has them."""
    ngrams: int = 5
    """Longest n-gram of tokens with an embedding of its own; 1: none."""
    buckets: int = 65_536
    """Rows that the n-grams of one length share."""
    optimizer: Optimizer = "muon"
    """Muon for the blocks' matrices and AdamW for the rest, or AdamW for both."""
    lr: float = 0.02
    """Peak learning rate of Muon."""
    lr_rest: float = 0.01
    """Peak learning rate of AdamW."""
    lr_rows: float = 0.1
    """Peak learning rate of the n-grams' rows."""
    overfit: int = 0
    """Train and validate on this many characters alone; 0: on all of the text."""
    test: bool = True
    """Score the test text at the end; studies choose by validation and leave it out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("block", "layers", "heads", "width", "ngrams", "buckets"):
            value = getattr(self, name)
            check(value >= 1, f"--{name} must be at least 1, not {value}")
        check(
            self.width % (2 * self.heads) == 0,
            f"--width {self.width} must be an even multiple of --heads {self.heads}",
        )
        check(
            257 <= self.vocabulary <= 65_536,
            f"--vocabulary must be 257 to 65,536, not {self.vocabulary:,}",
        )
        for name in ("lr", "lr_rest", "lr_rows"):
            check(getattr(self, name) > 0, f"--{name.replace('_', '-')} must be above 0")
        check(self.overfit >= 0, f"--overfit must not be negative, not {self.overfit}")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(DataOptions):
    """GPT-2's weights, taught the plays."""

    steps: int = 300
    """Optimiser steps of the whole run."""
    init: str = "gpt2"
    """A name on the hub (gpt2, gpt2-medium, distilgpt2) or a folder with its config.json,
    model.safetensors, vocab.json and merges.txt."""
    block: int = 256
    """Context in tokens, at most the model's own."""
    batch_size: int = 4
    """Windows of `block` tokens a step, over all processes."""
    lr: float = 5e-5
    """Peak learning rate of AdamW; with LoRA ten times as much."""
    weight_decay: float = 0.01
    """AdamW's decay of matrices."""
    dropout: float = 0.1
    """Share of features dropped."""
    lora: int = 0
    """Rank of LoRA's matrices; 0: train all weights."""
    eval_every: int = 50
    """Steps between looks at the validation text, each with a sample."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.block >= 2, f"--block must be at least 2, not {self.block}")
        check(self.lr > 0, f"--lr must be above 0, not {self.lr}")
        check(self.lora >= 0, f"--lora must not be negative, not {self.lora}")


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions:
    """Which network to use."""

    checkpoint: str = ""
    """A checkpoint of `train` or `finetune`; left out: the newest run's best."""
    init: str = ""
    """GPT-2 as it is, instead of a checkpoint: a name on the hub or a folder."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""

    def __post_init__(self) -> None:
        check(not (self.checkpoint and self.init), "give --checkpoint or --init, not both")


@dataclass(frozen=True, kw_only=True)
class SampleConfig(CheckpointOptions):
    """What to write, and how freely."""

    prompt: str = "ROMEO:\n"
    r"""Text to go on from; \n is a new line."""
    tokens: int = 500
    """How many to write."""
    temperature: float = 0.8
    """Logits are divided by it; 0: always the likeliest token."""
    top_k: int = 0
    """Only the k likeliest tokens; 0: all."""
    top_p: float = 1.0
    """Only the likeliest tokens that together have this probability (Holtzman 2020)."""
    seed: int = 0
    """Of the draws."""
    cache: bool = True
    """Keep keys and values of past tokens; without, compute all of them for each new one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.tokens >= 1, f"--tokens must be at least 1, not {self.tokens}")
        check(self.temperature >= 0, f"--temperature must not be negative, not {self.temperature}")
        check(self.top_k >= 0, f"--top-k must not be negative, not {self.top_k}")
        check(0 < self.top_p <= 1, f"--top-p must be in (0, 1], not {self.top_p}")
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(CheckpointOptions):
    """What to measure the network on."""

    split: Literal["val", "test"] = "val"
    """Validation plays, or those that nothing was chosen by."""
    data: str = ""
    """Other text: a .txt, all of it; left out: the run's own."""


@dataclass(frozen=True, kw_only=True)
class LookConfig(CheckpointOptions):
    """What to draw."""

    text: str = ""
    """A passage to colour by surprise; left out: the middle of a validation play."""
    prompt: str = "ROMEO:\n"
    r"""What the samples go on from; \n is a new line."""
    out: Path = Path("looks")
    """Folder for the pictures."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig(RunOptions):
    """The same training with one part changed, for each of some parts."""

    steps: int = 300
    """Optimiser steps of each training."""
    vary: Literal["architecture", "optimizer", "tokens"] = "architecture"
    """The network's parts, the optimiser, or the tokens."""
    seeds: int = 3
    """Trainings of each kind, with the seeds `seed`, `seed` + 1, ...; one shows no spread."""
    workers: int = 0
    """Trainings at a time; 0: one for each core, or one on a GPU."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.seeds >= 1, f"--seeds must be at least 1, not {self.seeds}")
        check(self.workers >= 0, f"--workers must not be negative, not {self.workers}")


@dataclass(frozen=True, kw_only=True)
class CacheConfig(RunOptions):
    """Sampling with and without the cache of keys and values."""

    steps: int = 256
    """Tokens to write."""
    layers: int = 6
    """Blocks of the network, which has random weights; the defaults are nanoGPT's."""
    heads: int = 6
    """Heads of attention."""
    width: int = 384
    """Features of a token."""
    rounds: int = 3
    """Times that both take turns; the median ratio counts."""
    threads: int = 1
    """Of the CPU. A single token can hardly use a second one, all of the context can (README)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("layers", "heads", "width", "rounds", "threads"):
            value = getattr(self, name)
            check(value >= 1, f"--{name} must be at least 1, not {value}")
        check(
            self.width % (2 * self.heads) == 0,
            f"--width {self.width} must be an even multiple of --heads {self.heads}",
        )


@dataclass(frozen=True, kw_only=True)
class OracleConfig(RunOptions):
    """Our GPT-2 against transformers', our byte-pair encoding against tokenizers'."""

    steps: int = 3
    """Random networks and texts to hold against them."""
