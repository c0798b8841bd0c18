"""The commands of this project. torch is imported only after the options are read."""

from splatting import config as options
from trainloop import entry_point, parse


@entry_point
def train() -> None:
    """Fit Gaussians to posed views, test on held-out ones, leave pictures and a .ply."""
    config = parse(options.TrainConfig, train.__doc__)
    from splatting.train import train as run

    run(config)


@entry_point
def fit_image() -> None:
    """Fit 2-D Gaussians to a photo, and say how many decibels a byte buys."""
    config = parse(options.FitConfig, fit_image.__doc__)
    from splatting.fit_image import fit_image as run

    run(config)


@entry_point
def evaluate() -> None:
    """Hold a checkpoint or a .ply against held-out views."""
    config = parse(options.EvaluateConfig, evaluate.__doc__)
    from splatting.evaluate import evaluate as run

    run(config)


@entry_point
def ablate() -> None:
    """What each part is worth: the default training beside one change at a time."""
    config = parse(options.AblateConfig, ablate.__doc__)
    from splatting.studies import ablate as run

    run(config)


@entry_point
def export() -> None:
    """Write Gaussians as the standard 3DGS .ply."""
    config = parse(options.ExportConfig, export.__doc__)
    from splatting.export import export as run

    run(config)


@entry_point
def view() -> None:
    """Write a page that shows Gaussians in a browser, offline."""
    config = parse(options.ViewConfig, view.__doc__)
    from splatting.view import view as run

    run(config)


@entry_point
def explain() -> None:
    """Draw the mathematics: covariance, Jacobian, blending, what density control sees."""
    config = parse(options.ExplainConfig, explain.__doc__)
    from splatting.explain import explain as run

    run(config)
