"""The commands of this project. torch is imported only after the options are read."""

from fashion_mnist import config as options
from trainloop import entry_point, parse


@entry_point
def train() -> None:
    """Train a classifier of garments, fit its temperature, test once at the end."""
    config = parse(options.TrainConfig, train.__doc__)
    from fashion_mnist.train import train as run

    run(config)


@entry_point
def compare() -> None:
    """Train every architecture with the same budget and three seeds; a table and a picture."""
    config = parse(options.CompareConfig, compare.__doc__)
    from fashion_mnist.compare import compare as run

    run(config)


@entry_point
def evaluate() -> None:
    """Look into a trained model: confusion, calibration, mistakes, labels, map, Grad-CAM."""
    config = parse(options.EvaluateConfig, evaluate.__doc__)
    from fashion_mnist.evaluate import evaluate as run

    run(config)


@entry_point
def export() -> None:
    """Hand a model and its predictions over to Houdini: ONNX, predictions.npz, atlas.png."""
    config = parse(options.ExportConfig, export.__doc__)
    from fashion_mnist.export import export as run

    run(config)
