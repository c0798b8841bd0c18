"""The commands of this project. torch is imported only after the options are read."""

from mnist import config as options
from trainloop import entry_point, parse


@entry_point
def train() -> None:
    """Train the CNN, log loss and accuracy of every batch, test once at the end."""
    config = parse(options.TrainConfig, train.__doc__)
    from mnist.train import train as run

    run(config)


@entry_point
def models() -> None:
    """Train three models and keep each as safetensors, with a card."""
    config = parse(options.ModelsConfig, models.__doc__)
    from mnist.models import models as run

    run(config)


@entry_point
def synthetic_study() -> None:
    """Do rendered digits help? Accuracy by the number of real images, with and without them."""
    config = parse(options.StudyConfig, synthetic_study.__doc__)
    from mnist.study import synthetic_study as run

    run(config)


@entry_point
def predict() -> None:
    """Say which digit a photo or a drawing shows."""
    config = parse(options.PredictConfig, predict.__doc__)
    from mnist.predict import predict_pictures

    predict_pictures(config)


@entry_point
def export() -> None:
    """Write a model as ONNX, from pixels to probabilities, for one image and for any number."""
    config = parse(options.ExportConfig, export.__doc__)
    from mnist.export import export_model

    export_model(config)
