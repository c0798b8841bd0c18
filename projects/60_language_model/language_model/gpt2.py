"""GPT-2's published weights in our own module, and back."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from language_model.model import Gpt, Shape
from trainloop import LabError, atomic_write

# Our name of each tensor -> theirs. transformers keeps linear layers the other way round (Conv1D).
OUTSIDE = {
    "token.weight": "wte.weight", "position.weight": "wpe.weight",
    "norm.weight": "ln_f.weight", "norm.bias": "ln_f.bias",
}  # fmt: skip
INSIDE = {
    "norm_1": "ln_1", "attention.qkv": "attn.c_attn", "attention.out": "attn.c_proj",
    "norm_2": "ln_2", "mlp.up": "mlp.c_fc", "mlp.out": "mlp.c_proj",
}  # fmt: skip


def names(shape: Shape) -> dict[str, str]:
    """Our name of every tensor of a GPT-2, and theirs."""
    found = dict(OUTSIDE)
    for index in range(shape.layers):
        for ours, theirs in INSIDE.items():
            for part in ("weight", "bias"):
                found[f"blocks.{index}.{ours}.{part}"] = f"h.{index}.{theirs}.{part}"
    return found


def is_turned(name: str) -> bool:
    """Whether a tensor of theirs is the transpose of ours."""
    return ".c_" in name and name.endswith("weight")


def load_gpt2(folder: Path, dropout: float = 0.0) -> Gpt:
    """The network in a folder's config.json and model.safetensors.

    Raises:
        LabError: a file is missing or damaged, or it is no GPT-2 of the usual make.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        tensors = load_file(folder / "model.safetensors")
        shape = Shape(
            vocabulary=config["vocab_size"], block=config["n_positions"],
            layers=config["n_layer"], heads=config["n_head"], width=config["n_embd"],
            positions="learned", norm="layer", activation="gelu", qk_norm=False, tied=True,
            bias=True, dropout=dropout,
        )  # fmt: skip
    except OSError as error:
        raise LabError(f"{folder} lacks a file of GPT-2: {error}") from None
    except (ValueError, KeyError, SafetensorError) as error:
        raise LabError(f"{folder} holds no GPT-2: {error}") from None
    if config.get("activation_function", "gelu_new") != "gelu_new":
        raise LabError(f"{folder}: GPT-2 has gelu_new, not {config['activation_function']}")
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    with torch.device("meta"):  # 124 million random numbers would take a second
        model = Gpt(shape)
    ours = {"head.weight": "wte.weight", **names(shape)}
    try:
        state = {a: arranged(tensors[b], b, model.get_parameter(a)) for a, b in ours.items()}
    except (KeyError, RuntimeError) as error:
        raise LabError(f"{folder}: its weights do not fit its config.json: {error}") from None
    model.load_state_dict(state, assign=True)
    model.head.weight = model.token.weight
    return model


def arranged(tensor: Tensor, name: str, like: Tensor) -> torch.nn.Parameter:
    """A tensor of theirs in the form of ours; RuntimeError if it has another size."""
    tensor = tensor.T if is_turned(name) else tensor
    return torch.nn.Parameter(tensor.reshape(like.shape).float().contiguous())


def save_gpt2(model: Gpt, folder: Path) -> None:
    """Write config.json and model.safetensors that transformers reads, of a GPT-2 without LoRA."""
    shape, state = model.shape, model.state_dict()
    tensors = {}
    for ours, theirs in names(shape).items():
        tensor = state[ours]
        if is_turned(theirs):
            tensor = tensor.reshape(-1, tensor.shape[-1]).T
        tensors[f"transformer.{theirs}"] = tensor.contiguous().cpu()
    config = {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2",
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
        "vocab_size": shape.vocabulary, "n_positions": shape.block, "n_layer": shape.layers,
        "n_head": shape.heads, "n_embd": shape.width,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    text = json.dumps(config, indent=2) + "\n"
    atomic_write(folder / "config.json", lambda file: file.write(text.encode()))
