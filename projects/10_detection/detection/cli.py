"""The commands of this project. torch is imported only after the options are read."""

from detection.config import EvaluateConfig, PredictConfig, TrainConfig
from trainloop import entry_point, parse


@entry_point
def train() -> None:
    """Train the detector, look at validation images on the way, test once at the end."""
    config = parse(TrainConfig, train.__doc__)
    from detection.train import train as run

    run(config)


@entry_point
def evaluate() -> None:
    """Hold a checkpoint against one split of the data."""
    config = parse(EvaluateConfig, evaluate.__doc__)
    from detection.predict import evaluate_checkpoint

    evaluate_checkpoint(config)


@entry_point
def predict() -> None:
    """Find objects in images: draws the boxes and writes them as JSON."""
    config = parse(PredictConfig, predict.__doc__)
    from detection.predict import predict_images

    predict_images(config)
