"""Progress bars that do not flood a log file."""

import sys

from tqdm import tqdm


def progress_bar(total: int, unit: str, description: str = "", **options) -> tqdm:
    """A tqdm bar with rate and ETA: live on a terminal, a line every ten seconds elsewhere.

    Args:
        total: how many `unit` there are to do.
        options: passed on to tqdm (initial, disable, leave, unit_scale...).
    """
    live = sys.stderr.isatty()
    return tqdm(
        total=total,
        unit=unit,
        desc=description,
        dynamic_ncols=live,
        mininterval=0.1 if live else 10.0,
        **options,
    )
