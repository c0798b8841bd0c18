"""Networks that were trained, ready for use: from checkpoints, or GPT-2 as it was published."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from language_model.config import CheckpointOptions
from language_model.gpt2 import load_gpt2
from language_model.hub import gpt2_folder
from language_model.lora import Adapters, add_lora, merge_lora
from language_model.model import Gpt, Shape
from language_model.tokenizer import BytePairs, Tokenizer, restored
from trainloop import LabError, latest_checkpoint, load_checkpoint, pick_device
from trainloop.checkpoint import load_into


@dataclass(frozen=True)
class Trained:
    """A network and what its tokens mean.

    Attributes:
        data: `--data` of its training.
    """

    model: Gpt
    tokenizer: Tokenizer
    data: str
    device: torch.device


class Kept:
    """A tokenizer as a part of a checkpoint: resuming with another one is refused."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._state = tokenizer.state()

    def state_dict(self) -> dict[str, Any]:
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """ValueError unless it is the same."""
        if state != self._state:
            raise ValueError("its tokens are others, so the text has changed since")


def load_trained(options: CheckpointOptions) -> Trained:
    """The network that the options name; without any the newest run's best.

    Raises:
        LabError: there is none, or its parts do not belong together.
    """
    device = pick_device(options.device)
    if options.init:
        folder = gpt2_folder(options.init)
        tokenizer, model = BytePairs.from_gpt2(folder), load_gpt2(folder)
        check_fit(folder, tokenizer, model.shape.vocabulary)
        return Trained(model.to(device).eval(), tokenizer, "shakespeare", device)
    path = Path(
        options.checkpoint or latest_checkpoint("language-model", commands=("train", "finetune"))
    )
    saved = load_checkpoint(path, "language-model")
    try:
        tokenizer, config = restored(saved["states"]["tokenizer"]), saved["config"]
        shape = Shape(**saved["notes"]["shape"])
    except (KeyError, TypeError) as error:
        raise LabError(f"{path} is of another version of this project: {error}") from None
    check_fit(path, tokenizer, shape.vocabulary)
    if config.get("lora"):
        model = add_lora(load_gpt2(gpt2_folder(config["init"])), config["lora"])
        load_into(path, {"model": Adapters(model)}, {"model": saved["states"]["model"]})
        model = merge_lora(model)
    else:
        model = Gpt(shape)
        weights = saved["states"].get("ema") or saved["states"]["model"]
        weights = {name: value for name, value in weights.items() if name != "updates"}
        load_into(path, {"model": model}, {"model": weights})
    return Trained(model.to(device).eval(), tokenizer, config["data"], device)


def check_fit(path: Path, tokenizer: Tokenizer, vocabulary: int) -> None:
    """LabError where a network has other tokens than its tokenizer."""
    if tokenizer.size != vocabulary:
        raise LabError(
            f"{path}: its tokenizer has {tokenizer.size:,} tokens and its network "
            f"{vocabulary:,}: they do not belong together"
        )
