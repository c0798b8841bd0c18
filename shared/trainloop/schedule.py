"""Learning-rate schedules as plain functions of the step: nothing to save, nothing to resume."""

import math


def warmup_cosine(step: int, steps: int, warmup: float = 0.04, final: float = 0.02) -> float:
    """Factor on the learning rate at step 1..steps: linear warm-up, then half a cosine.

    Args:
        warmup: share of the steps over which the factor climbs to 1.
        final: factor at the last step.
    """
    rising = max(1, round(warmup * steps))
    if step <= rising:
        return step / rising
    progress = (step - rising) / max(1, steps - rising)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))
