"""The commands of this project. torch is imported only after the options are read."""

from diffusion import config as options
from trainloop import entry_point, parse


@entry_point
def train() -> None:
    """Train a denoiser, sample from it once at the end, score the samples, draw."""
    config = parse(options.TrainConfig, train.__doc__)
    from diffusion.train import train as run

    run(config)


@entry_point
def sample() -> None:
    """Draw samples of a trained network."""
    config = parse(options.SampleConfig, sample.__doc__)
    from diffusion.sample import sample as run

    run(config)


@entry_point
def evaluate() -> None:
    """Score a trained network with any sampler, and draw all that `train` draws."""
    config = parse(options.EvaluateConfig, evaluate.__doc__)
    from diffusion.studies import evaluate as run

    run(config)


@entry_point
def samplers() -> None:
    """Quality against steps: every sampler, held against ancestral sampling."""
    config = parse(options.SamplersConfig, samplers.__doc__)
    from diffusion.studies import samplers as run

    run(config)


@entry_point
def compare() -> None:
    """Schedules x objectives at a fixed budget, several seeds each."""
    config = parse(options.CompareConfig, compare.__doc__)
    from diffusion.studies import compare as run

    run(config)


@entry_point
def failures() -> None:
    """Five mistakes on purpose, each beside a training without it."""
    config = parse(options.FailuresConfig, failures.__doc__)
    from diffusion.studies import failures as run

    run(config)


@entry_point
def oracle() -> None:
    """Hold schedules, noise and every sampler's steps against diffusers."""
    config = parse(options.OracleConfig, oracle.__doc__)
    from diffusion.oracle import oracle as run

    run(config)


@entry_point
def export() -> None:
    """Write the denoiser as ONNX and as safetensors, each held against torch."""
    config = parse(options.ExportConfig, export.__doc__)
    from diffusion.export import export_model

    export_model(config)
