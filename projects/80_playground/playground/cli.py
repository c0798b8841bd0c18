"""The commands of this project. Only `train` and `measure` import torch, for their books."""

from playground import config as options
from trainloop import entry_point, parse


@entry_point
def train() -> None:
    """Train the NumPy net without a window; accuracy and loss of each epoch, a test at the end."""
    config = parse(options.TrainConfig, train.__doc__)
    from playground.train import train as run

    run(config)


@entry_point
def play() -> None:
    """Draw digits, train a net on them, see through it: in a window, or in a browser (--web)."""
    config = parse(options.PlayConfig, play.__doc__)
    if config.web:
        from playground.web import serve

        serve(config)
    else:
        from playground.window import play as run

        run(config)


@entry_point
def evaluate() -> None:
    """Hold a model against digits: accuracy, loss, and who is taken for whom."""
    config = parse(options.EvaluateConfig, evaluate.__doc__)
    from playground.evaluate import evaluate as run

    run(config)


@entry_point
def add_noise() -> None:
    """Make a data set larger by noisy copies: specks, shifts, turns, thicker or thinner strokes."""
    config = parse(options.AddNoiseConfig, add_noise.__doc__)
    from playground.evaluate import add_noise as run

    run(config)


@entry_point
def export() -> None:
    """Write a model as ONNX, from pixels to probabilities, for one image and for any number."""
    config = parse(options.ExportConfig, export.__doc__)
    from playground.export import export_model

    export_model(config)


@entry_point
def measure() -> None:
    """Drive the window while it trains: frame times, guess times, samples after SIGKILL."""
    config = parse(options.MeasureConfig, measure.__doc__)
    from playground.measure import measure as run

    run(config)
