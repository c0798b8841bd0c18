"""The commands of this project. torch is imported only after the options are read."""

from language_model import config as options
from trainloop import entry_point, parse


@entry_point
def train() -> None:
    """Train a GPT from nothing, test it once, draw what it does."""
    config = parse(options.TrainConfig, train.__doc__)
    from language_model.train import train as run

    run(config)


@entry_point
def finetune() -> None:
    """Teach GPT-2 the plays: all of its weights, or LoRA."""
    config = parse(options.FinetuneConfig, finetune.__doc__)
    from language_model.finetune import finetune as run

    run(config)


@entry_point
def sample() -> None:
    """Write text, token by token."""
    config = parse(options.SampleConfig, sample.__doc__)
    from language_model.use import sample as run

    run(config)


@entry_point
def evaluate() -> None:
    """Loss, perplexity and bits a character on text that was held out."""
    config = parse(options.EvaluateConfig, evaluate.__doc__)
    from language_model.use import evaluate as run

    run(config)


@entry_point
def look() -> None:
    """Draw attention, surprise and sampling of a network."""
    config = parse(options.LookConfig, look.__doc__)
    from language_model.use import look as run

    run(config)


@entry_point
def compare() -> None:
    """The same training with one part changed, for each of some parts."""
    config = parse(options.CompareConfig, compare.__doc__)
    from language_model.compare import compare as run

    run(config)


@entry_point
def cache() -> None:
    """What the cache of keys and values buys, and that it changes no token."""
    config = parse(options.CacheConfig, cache.__doc__)
    from language_model.cache import cache as run

    run(config)


@entry_point
def oracle() -> None:
    """Hold our GPT-2 against transformers' and our byte pairs against tokenizers'."""
    config = parse(options.OracleConfig, oracle.__doc__)
    from language_model.oracle import oracle as run

    run(config)
