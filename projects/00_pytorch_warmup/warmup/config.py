"""Options of the commands; no torch here, so that `--help` is quick."""

from dataclasses import dataclass

from trainloop import RunOptions, check


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunOptions):
    """How to train the CNN. The defaults reach 99% in about half a minute on two cores."""

    steps: int = 2150
    """Optimiser steps: 5 epochs of 55,000 images at the default batch size."""
    batch_size: int = 128
    """Images a step, over all processes."""
    lr: float = 5e-3
    """Peak learning rate of AdamW, reached after a fifth of the run."""
    weight_decay: float = 0.05
    """AdamW's decay, on convolution and linear weights only."""
    width: int = 8
    """Channels of the first convolution; 8 gives 18 thousand parameters, 16 gives 71 thousand."""
    dropout: float = 0.2
    """Share of the features dropped before the last layer."""
    shift: int = 1
    """Training images are moved by up to this many pixels each way."""
    ema: float = 0.99
    """Decay of the weights' moving average, which is what gets evaluated."""
    eval_every: int = 430
    """Steps between looks at the validation images."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.batch_size >= 1, f"--batch-size must be at least 1, not {self.batch_size}")
        check(self.eval_every >= 1, f"--eval-every must be at least 1, not {self.eval_every}")
        check(self.width >= 1, f"--width must be at least 1, not {self.width}")
        check(0 <= self.dropout < 1, f"--dropout must be in [0, 1), not {self.dropout}")
        check(0 <= self.ema < 1, f"--ema must be in [0, 1), not {self.ema}")
        check(0 <= self.shift <= 14, f"--shift must be 0 to 14 pixels, not {self.shift}")
