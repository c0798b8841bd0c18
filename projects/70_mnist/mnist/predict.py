"""Which digit does a photo or a drawing show?"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from mnist.centre import Centred, centre_picture
from mnist.config import PredictConfig
from mnist.model import load_model
from trainloop import LabError, atomic_write, runs_dir


def predict_pictures(config: PredictConfig) -> list[list[tuple[int, float]]]:
    """Print a line a picture: the three likeliest digits with their probabilities.

    Returns:
        (digit, probability), likeliest first, of each picture that could be read.

    Raises:
        LabError: there is no model; or, after the other pictures, some could not be read.
    """
    model = load_model(config.model)
    read, wrong = {}, []
    for path in config.images:
        try:
            read[path] = centre_picture(path)
        except LabError as error:
            wrong.append(str(error))
    guesses = [top_three(model, steps) for steps in read.values()]
    for path, guess in zip(read, guesses, strict=True):
        print(f"{path}: {', '.join(f'{digit} ({p:.1%})' for digit, p in guess)}")
    if config.show and read:
        picture = runs_dir() / "mnist-predict/predict.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        figure = draw_steps(read, guesses)
        atomic_write(picture, lambda file: figure.savefig(file, format="png"))
        print(f"picture: {picture}")
    if wrong:
        raise LabError("; ".join(wrong))
    return guesses


@torch.no_grad()
def top_three(model: torch.nn.Module, steps: Centred) -> list[tuple[int, float]]:
    """The likeliest digits of a centred picture."""
    probabilities = model(torch.from_numpy(steps.image)[None, None]).softmax(1)[0]  # (10,)
    values, digits = probabilities.topk(3)
    return list(zip(digits.tolist(), values.tolist(), strict=True))


def draw_steps(read: dict[Path, Centred], guesses: list[list[tuple[int, float]]]) -> Figure:
    """A row a picture: as read, its ink, what the net sees, and what the net thinks."""
    figure = Figure(figsize=(8, 2.1 * len(read)), layout="constrained")
    rows = figure.subplots(len(read), 4, squeeze=False)
    for (path, steps), guess, axes in zip(read.items(), guesses, rows, strict=True):
        pictures = {path.name: steps.grey, "ink": 1 - steps.ink, "centred": 1 - steps.image}
        for axis, (title, pixels) in zip(axes[:3], pictures.items(), strict=True):
            axis.imshow(pixels, cmap="gray", vmin=0, vmax=1)
            axis.set_title(title if len(title) < 24 else title[:20] + " ...", fontsize=9)
            axis.set(xticks=[], yticks=[])
        digits, values = zip(*guess, strict=True)
        bars = axes[3].barh(np.arange(3), values, color=["C0", "C7", "C7"], height=0.6)
        axes[3].bar_label(bars, [f"{p:.0%}" for p in values], padding=3, fontsize=9)
        axes[3].set_yticks(np.arange(3), [str(digit) for digit in digits], fontsize=11)
        axes[3].set(xlim=(0, 1.25), xticks=[])
        axes[3].invert_yaxis()
        axes[3].spines[["top", "right", "bottom"]].set_visible(False)
    return figure
