"""Pictures of what a network does with text."""

import html
import math
from pathlib import Path
from textwrap import wrap

import numpy as np
import torch
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor

from language_model.data import Corpus
from language_model.evaluate import document, losses
from language_model.model import Gpt
from language_model.sampling import filtered, generate
from language_model.trained import Trained
from trainloop import atomic_write
from trainloop.curves import read_metrics

REDS = colormaps["Reds"]  # each look-up there is a copy that has to be filled anew
WORST = 6.0  # bits at which the surprise's colour ends
PASSAGE = 700  # characters of the passage that is coloured
WRITTEN = 320  # tokens of each sample
LINES = 17  # of them that are shown
SETTINGS = (  # name, and what `filtered` is given
    ("temperature 0.5", {"temperature": 0.5}),
    ("temperature 1", {"temperature": 1.0}),
    ("temperature 1.5", {"temperature": 1.5}),
    ("temperature 1, top-k 5", {"temperature": 1.0, "top_k": 5}),
    ("temperature 1, top-p 0.8", {"temperature": 1.0, "top_p": 0.8}),
)


def draw_all(folder: Path, trained: Trained, text: str, prompt: str = "") -> None:
    """attention.png, surprise.png and surprise.html of a text, sampling.png after a prompt.

    Args:
        prompt: left out: the text without its last word, where many could follow.
    """
    prompt = prompt or (text.rpartition(" ")[0] + " " if " " in text else text)
    save(folder / "attention.png", draw_attention(trained, text))
    write_surprise(folder, trained, text)
    save(folder / "sampling.png", draw_sampling(trained, prompt))


def passage(corpus: Corpus) -> str:
    """Whole lines from the middle of the first validation text: speech, not stage directions."""
    text = next(iter(corpus.val.values()))
    later = text[len(text) // 2 :].partition("\n\n")[2] or text  # where a speech begins
    return later[:PASSAGE].rsplit("\n", 1)[0]


def save(path: Path, figure: Figure) -> None:
    """Write a figure, all of it or nothing."""
    atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=110))


def draw_progress(run: Path, tokens_a_step: int, tested: dict[str, float]) -> Figure:
    """Loss against tokens seen; `tested` is what network and counting got, if they were asked."""
    curves = read_metrics(run / "metrics.jsonl")
    figure = Figure(figsize=(8.5, 4.2), layout="constrained")
    axis = figure.subplots()
    steps, values = (np.array(values) for values in curves["loss"])
    width = max(1, len(values) // 60)
    smooth = np.convolve(values, np.ones(width) / width, "valid")
    millions = steps * tokens_a_step / 1e6
    axis.plot(millions, values, color="C0", alpha=0.2, linewidth=0.7)
    axis.plot(millions[width - 1 :], smooth, color="C0", label="training")
    at, loss = curves.get("val/loss", ([], []))
    axis.plot(np.array(at) * tokens_a_step / 1e6, loss, "o-", color="C3", label="validation")
    for name, style in (("bigram_loss", ":"), ("ngram_loss", "--")) if tested else ():
        label = f"{name.removesuffix('_loss')} counts, test: {tested[name]:.2f}"
        axis.axhline(tested[name], color="black", linestyle=style, linewidth=1, label=label)
    if tested:
        axis.plot(millions[-1], tested["loss"], "*", color="C2", ms=13,
                  label=f"test: {tested['loss']:.3f}")  # fmt: skip
    axis.set(xlabel="million tokens seen", ylabel="nats a token")
    low = min(*loss, smooth.min(), tested.get("loss", np.inf))
    axis.set_ylim(low - 0.1, max(tested.get("bigram_loss", 0) + 0.4, low + 1))
    axis.grid(alpha=0.25)
    axis.legend(frameon=False)
    return figure


# --- attention -----------------------------------------------------------------------------------


@torch.no_grad()
def attention_maps(model: Gpt, tokens: Tensor) -> Float[Tensor, "L H T T"]:
    """What each position of a passage looks at, in every head of every layer."""
    found = []

    def keep(layer: torch.nn.Module, inputs: tuple) -> None:
        found.append(layer.weights(inputs[0], inputs[1])[0])

    hooks = [block.attention.register_forward_pre_hook(keep) for block in model.blocks]
    try:
        model.eval()(tokens[None])
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(found).float().cpu()


def draw_attention(trained: Trained, text: str) -> Figure:
    """Every head as a small map; beside them, with its letters, the one that looks back furthest
    without only spreading out."""
    length = min(48, trained.model.shape.block)
    tokens = document(trained.tokenizer, text, trained.device)[1 : length + 1]
    maps = attention_maps(trained.model, tokens)  # (L, H, T, T)
    layers, heads = (min(6, n) for n in maps.shape[:2])
    figure = Figure(figsize=(13, 6.8), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.05))
    axes = left.subplots(layers, heads, squeeze=False)
    for layer in range(layers):
        for head in range(heads):
            axis = axes[layer, head]
            axis.imshow(maps[layer, head] ** 0.5, cmap="magma", vmin=0, vmax=1)
            axis.set_xticks([])
            axis.set_yticks([])
            if head == 0:
                axis.set_ylabel(f"layer {layer + 1}", fontsize=9)
            if layer == 0:
                axis.set_title(f"head {head + 1}", fontsize=9)
    left.suptitle("a row: what a position looks at (square root of the weight)", fontsize=10)

    distance = torch.arange(length)[:, None] - torch.arange(length)
    mean_distance = (maps * distance).sum(-1).mean(-1)  # (L, H)
    entropy = -(maps * maps.clamp(min=1e-9).log()).sum(-1).mean(-1)
    layer, head = divmod(int((mean_distance / entropy.exp()).argmax()), maps.shape[1])
    axis = right.subplots()
    axis.imshow(maps[layer, head] ** 0.5, cmap="magma", vmin=0, vmax=1)
    shown = [printable(trained.tokenizer.decode([token])) for token in tokens.tolist()]
    axis.set_xticks(range(length), shown, fontsize=7, family="monospace",
                    rotation=90 if max(map(len, shown)) > 1 else 0)  # fmt: skip
    axis.set_yticks(range(length), shown, fontsize=7, family="monospace")
    axis.tick_params(length=0)
    axis.set_title(f"layer {layer + 1}, head {head + 1}", fontsize=10)
    return figure


def printable(text: str) -> str:
    """A token as one line of a label."""
    return legible(text).replace("\n", "¶").replace(" ", "·") or "?"


def legible(text: str) -> str:
    """What the figures' font has; a control character or a byte cut loose is a question mark."""
    return "".join(c if c == "\n" or (c.isprintable() and ord(c) < 0x250) else "?" for c in text)


# --- surprise ------------------------------------------------------------------------------------


def surprise(trained: Trained, text: str) -> list[tuple[str, float]]:
    """Each token's text and its bits, -log2 P."""
    tokens = document(trained.tokenizer, text, trained.device)
    bits = (losses(trained.model, tokens) / math.log(2)).tolist()
    texts = [trained.tokenizer.decode([token]) for token in tokens[1:].tolist()]
    return list(zip(texts, bits, strict=True))


def write_surprise(folder: Path, trained: Trained, text: str) -> None:
    """surprise.png and surprise.html: the passage, darker red where the network was surprised."""
    found = surprise(trained, text)
    save(folder / "surprise.png", draw_surprise(found))
    page = surprise_page(found)
    atomic_write(folder / "surprise.html", lambda file: file.write(page.encode()))


def colour(bits: float) -> tuple[float, float, float]:
    """White at 0 bits to dark red at WORST, as red, green, blue in 0..1."""
    return REDS(min(1.0, bits / WORST) * 0.85)[:3]


def surprise_page(found: list[tuple[str, float]]) -> str:
    """A page of its own; the bits of a token show under the pointer."""
    spans = []
    for text, bits in found:
        red, green, blue = (round(255 * c) for c in colour(bits))
        ink = "#fff" if bits > 0.7 * WORST else "#222"
        style = f"background:rgb({red},{green},{blue});color:{ink}"
        spans.append(f'<span style="{style}" title="{bits:.2f} bits">{html.escape(text)}</span>')
    mean = sum(bits for _, bits in found) / len(found)
    return (
        "<!doctype html><meta charset=utf-8><title>surprise</title>"
        "<style>body{font:17px/1.7 ui-monospace,monospace;max-width:75ch;margin:3em auto;"
        "padding:0 1em}pre{white-space:pre-wrap;font:inherit}</style>"
        f"<p>{mean:.2f} bits a token; the darker, the more surprising.</p>"
        f"<pre>{''.join(spans)}</pre>\n"
    )


def draw_surprise(found: list[tuple[str, float]], widest: int = 74) -> Figure:
    """The passage in a grid, one cell a character, and a scale below."""
    lines = "".join(text for text, _ in found).split("\n")
    columns = min(widest, max(40, *map(len, lines)))
    cells, row, column = [], 0, 0
    for text, bits in found:
        for letter in legible(text):
            if letter == "\n" or column == columns:
                row, column = row + 1, 0
            if letter != "\n":
                cells.append((row, column, letter, bits))
                column += 1
    rows = row + 1
    width, height = 0.128 * columns + 0.4, 0.235 * rows + 0.9  # inches
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes((0.02, 0.75 / height, 0.96, 0.235 * rows / height))
    canvas = np.ones((rows, columns, 3))
    for y, x, letter, bits in cells:
        canvas[y, x] = colour(bits)
        axis.text(x, y, letter, ha="center", va="center", family="monospace", fontsize=9,
                  color="white" if bits > 0.7 * WORST else "black")  # fmt: skip
    axis.imshow(canvas, aspect="auto")
    axis.axis("off")
    scale = figure.add_axes((0.25, 0.42 / height, 0.5, 0.13 / height))
    scale.imshow([[colour(WORST * k / 99) for k in range(100)]], aspect="auto",
                 extent=(0, WORST, 0, 1))  # fmt: skip
    scale.set_yticks([])
    scale.set_xlabel("surprise (bits)", fontsize=9)
    scale.tick_params(labelsize=8)
    return figure


# --- sampling ------------------------------------------------------------------------------------


def draw_sampling(trained: Trained, prompt: str) -> Figure:
    """Above what each setting leaves of the next token's probabilities, below what it writes."""
    tokens = trained.tokenizer.encode(prompt)[-trained.model.shape.block :]
    with torch.no_grad():
        logits = trained.model(torch.tensor([tokens], device=trained.device))[0, -1].cpu()
    likeliest = logits.argsort(descending=True)[:12]
    labels = [printable(trained.tokenizer.decode([token])) for token in likeliest.tolist()]
    chances = [filtered(logits, **options) for _, options in SETTINGS]
    figure = Figure(figsize=(13, 2.6 + LINES * 0.14), layout="constrained")
    axes = figure.subplots(2, len(SETTINGS), height_ratios=(2.1, LINES * 0.14))  # inches, about
    for (name, options), left, upper, lower in zip(SETTINGS, chances, *axes, strict=True):
        upper.bar(range(len(labels)), left[likeliest].tolist(), color="C0")
        upper.set_xticks(range(len(labels)), labels, family="monospace", fontsize=9)
        upper.set_ylim(0, 1.05 * max(float(chance.max()) for chance in chances))
        upper.set_title(name, fontsize=10)
        upper.grid(alpha=0.25, axis="y")
        upper.tick_params(length=0)
        written = generate(trained.model, tokens, WRITTEN, seed=1, **options)
        text = legible(trained.tokenizer.decode(written))
        lines = [part for line in text.split("\n") for part in wrap(line, 30) or [""]]
        lower.text(0, 1, "\n".join(lines[:LINES]), va="top", family="monospace", fontsize=8,
                   transform=lower.transAxes, parse_math=False)  # fmt: skip
        lower.axis("off")
    axes[0, 0].set_ylabel("probability of the next token", fontsize=9)
    return figure
