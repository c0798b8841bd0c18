"""Learning rate and momentum as plain functions of the step: nothing to save or to resume."""

import math

from trainloop import warmup_cosine

RISING = 0.3  # share of a one-cycle run in which the rate rises
MOMENTUM = (0.95, 0.85)  # AdamW's beta 1 of a one-cycle run, at its ends and at the peak


def at(name: str, step: int, steps: int) -> tuple[float, float]:
    """(factor on the peak learning rate, beta 1) at step 1..steps of a schedule.

    one-cycle (Smith 2018): the rate climbs from 1/25 to 1 and falls to nothing, along half cosines;
    momentum goes the other way, for a large rate is momentum enough. cosine: a warm-up over 4% of
    the steps, then down to 2%. constant: 1.
    """
    if name == "constant":
        return 1.0, 0.9
    if name == "cosine":
        return warmup_cosine(step, steps), 0.9
    done, peak = step - 1, RISING * steps - 1  # where torch's OneCycleLR has it
    if done <= peak:
        return blend(1 / 25, 1.0, done / peak), blend(*MOMENTUM, done / peak)
    falling = (done - peak) / (steps - 1 - peak)
    return blend(1.0, 1e-5, falling), blend(*reversed(MOMENTUM), falling)


def blend(start: float, end: float, share: float) -> float:
    """From `start` at 0 to `end` at 1 along half a cosine."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
