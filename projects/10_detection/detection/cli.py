"""The commands of this project. torch is imported only after the options are read."""

from detection import config as options
from trainloop import entry_point, parse


@entry_point
def train() -> None:
    """Train the detector, look at validation images on the way, test once at the end."""
    config = parse(options.TrainConfig, train.__doc__)
    from detection.train import train as run

    run(config)


@entry_point
def pretrain() -> None:
    """Train the small backbone as a classifier of object crops, for `--backbone-weights`."""
    config = parse(options.PretrainConfig, pretrain.__doc__)
    from detection.pretrain import pretrain as run

    run(config)


@entry_point
def ablate() -> None:
    """Change one of assignment, box loss and class loss at a time, at a fixed budget."""
    config = parse(options.AblateConfig, ablate.__doc__)
    from detection.studies import ablate as run

    run(config)


@entry_point
def transfer() -> None:
    """What a pretrained backbone is worth at 50, 200 and 1,000 labelled scenes."""
    config = parse(options.TransferConfig, transfer.__doc__)
    from detection.studies import transfer as run

    run(config)


@entry_point
def failures() -> None:
    """Four trainings that go wrong on purpose, and how one sees it."""
    config = parse(options.FailuresConfig, failures.__doc__)
    from detection.studies import failures as run

    run(config)


@entry_point
def evaluate() -> None:
    """Hold a checkpoint against one split of the data."""
    config = parse(options.EvaluateConfig, evaluate.__doc__)
    from detection.predict import evaluate_checkpoint

    evaluate_checkpoint(config)


@entry_point
def errors() -> None:
    """Say what a checkpoint gets wrong, and what each kind of error costs."""
    config = parse(options.ErrorsConfig, errors.__doc__)
    from detection.predict import explain_errors

    explain_errors(config)


@entry_point
def augment() -> None:
    """Draw what each augmentation does to images and boxes."""
    config = parse(options.AugmentConfig, augment.__doc__)
    from detection.predict import show_augmentations

    show_augmentations(config)


@entry_point
def export() -> None:
    """Write a checkpoint as ONNX, and hold it against torch."""
    config = parse(options.ExportConfig, export.__doc__)
    from detection.export import export_checkpoint

    export_checkpoint(config)


@entry_point
def predict() -> None:
    """Find objects in images: draws the boxes and writes them as JSON."""
    config = parse(options.PredictConfig, predict.__doc__)
    from detection.predict import predict_images

    predict_images(config)
