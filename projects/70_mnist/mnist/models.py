"""Three models worth keeping: trained, written as safetensors, each with a card."""

import json
from pathlib import Path

from mnist.config import ModelsConfig
from mnist.data import load, synthetic_files
from mnist.evaluate import log_probabilities, scores
from mnist.model import load_model, models_dir, save_model
from trainloop import Run, train_all, write_text

RECIPES = {
    "mnist_cnn": ["--epochs=5"],
    "mnist_cnn_01": ["--epochs=15"],
    "mnist_cnn_02": ["--epochs=5", "--mix=0.41"],
}
"""What `train` is given for each model."""


def models(config: ModelsConfig) -> dict[str, float | int | None]:
    """Train the models side by side, keep them, and test each file by reading it again.

    Raises:
        LabError: there are no rendered digits for mnist_cnn_02.
    """
    config = Run.options("mnist", config, "models")
    recipes = {name: RECIPES[name] for name in config.names}
    if "mnist_cnn_02" in recipes:
        synthetic_files(config.synthetic_folder)  # complain before the others are trained
        recipes["mnist_cnn_02"] = [
            *recipes["mnist_cnn_02"],
            f"--synthetic={config.synthetic_folder}",
        ]
    run = Run.open("mnist", config, "models")
    run.resume()
    run.total = len(recipes)
    shared = [f"--seed={config.seed}", f"--steps={config.steps}", f"--precision={config.precision}"]
    trained = train_all(
        run, {name: [*recipe, *shared] for name, recipe in recipes.items()}, config.workers
    )
    _, _, test_set = load()
    for name, training in trained.items():
        summary = json.loads((training.folder / "summary.json").read_text("utf-8"))
        path = models_dir() / f"{name}.safetensors"
        options = summary["config"]
        model = load_model(training.folder / "last.pt")
        save_model(model, path, options["width"], options["dropout"])
        found = scores(log_probabilities(load_model(path), test_set.images), test_set.labels)
        card = model_card(name, summary, found)
        write_text(path.with_suffix(".md"), card)
        run.log(run.total, **{f"test/{key}_{name}": value for key, value in found.items()})
        print(f"{name}: {found['accuracy']:.2%} on test images, {path}")
    return run.finish(trainings=len(trained))


def model_card(name: str, summary: dict, found: dict[str, float]) -> str:
    """Markdown: what the model is, what it was trained on, how good it is, how to load it.

    Args:
        summary: summary.json of its training.
        found: accuracy and nll of the kept file on MNIST's test images.
    """
    options, metrics = summary["config"], summary["metrics"]
    rendered = metrics["images"] - options["real"] * options["repeat"]
    data = f"{options['real']:,} of MNIST's training images"
    if rendered:
        data += f" and {rendered:,} rendered digits (`uv run --package houdini digits`)"
    command = " ".join(
        f"--{key.replace('_', '-')} {Path(value).name if key == 'synthetic' else value}"
        for key, value in {**summary["overrides"], "seed": options["seed"]}.items()
    )
    return f"""# {name}

A convolutional net that reads one handwritten digit: float32 images (N, 1, 28, 28), white on black
in 0..1, centred as MNIST's are, to ten logits.

| | |
|---|---|
| trained on | {data}, moved by up to {options["shift"]} pixel(s) |
| steps | {summary["steps"]:,} of {options["batch_size"]} images |
| command | `uv run --package mnist train {command}` |
| accuracy, test images | {found["accuracy"]:.2%} |
| nll, the same | {found["nll"]:.4f} nats |
| accuracy, validation images | {metrics["val/accuracy"]:.2%} |
| time | {metrics["wall_seconds"]:.0f} s on {summary["device"]}, threads: {summary["threads"]} |
| seed | {options["seed"]} |
| finished | {summary["finished"]} |
| commit | {summary["commit"] or "unknown"} |
| torch | {summary["torch"]} |

```python
from mnist.model import load_model

model = load_model("{name}.safetensors")
probabilities = model(images).softmax(1)
```

Without this project: `safetensors.torch.load_file` gives the weights, and `build` in
`mnist/model.py`, called with width {options["width"]}, is all there is to the net. It knows MNIST's
digits and little else: other pens, papers and hands want `predict`'s centring, and something that
is no digit gets an answer too.
"""
