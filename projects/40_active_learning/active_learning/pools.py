"""Pools by name: the knobs that decide whether it can matter which frames one labels."""

from dataclasses import dataclass, replace

CLASSES = 10
"""The digits."""


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """What a pool of rendered scenes is like.

    Test and validation scenes have the same share of empty frames and objects per frame, but no
    clips, every class as often as any other, and half of them are dark where any of the pool is:
    the pool is what a camera happened to see, the test what one wants to know.
    """

    frames: int = 1_200
    """Frames of the pool."""
    empty: float = 0.5
    """Share of frames without an object."""
    objects: int = 3
    """Most objects of a frame; those that are not empty have 1 to this many."""
    clip: int = 1
    """Mean number of consecutive, nearly equal frames; 1: every frame is a scene of its own."""
    parked: float = 0.0
    """How unequal the clips' lengths are, as 1/rank^parked: 0 all equal, 1.2 a parked camera."""
    rare: int = 0
    """How many classes (the highest digits) are rare."""
    rarity: float = 1.0
    """How many times as often as a rare class a common one is shown."""
    dark: float = 0.0
    """Share of scenes with a tenth of the light and more noise."""


POOLS: dict[str, Knobs] = {
    # Half of the frames show nothing: what any strategy that avoids them wins.
    "half-empty": Knobs(),
    # The same without empty frames: what is left of it.
    "full": Knobs(empty=0.0),
    # Five classes 12 times as rare as the others, one or two objects a frame: do labels of rare
    # classes, which count as much in the mean over classes, come cheaper by asking for them?
    "rare": Knobs(frames=2_400, objects=2, rare=5, rarity=12.0),
    # Half of the frames are empty, the others are 60 scenes filmed 20 times each.
    "clips": Knobs(clip=20),
    # A camera that stood still: the longest of 300 clips is a seventh of the pool.
    "parked": Knobs(frames=2_400, clip=8, parked=1.0),
    # Both: rare classes, seen by a camera that stood still.
    "rare-parked": Knobs(frames=2_400, objects=2, clip=8, parked=1.0, rare=5, rarity=12.0),
    # One scene in twelve is dark, in the test every second one.
    "dark": Knobs(frames=2_400, dark=1 / 12),
    # One class of ten is very rare, nothing is empty: the least that class balance could win.
    "one-rare": Knobs(frames=2_400, empty=0.0, objects=2, rare=1, rarity=30.0),
    # A pool of nearly empty frames: one object in ten frames, as a wildlife camera sees them.
    "wildlife": Knobs(frames=2_400, empty=0.9, objects=2, clip=4, rare=5, rarity=4.0),
    # 600 frames, for the oracle, which trains for every batch that it considers.
    "small": Knobs(frames=600),
}


def knobs(pool: str, **changed: float | int | None) -> Knobs:
    """Those of a named pool, with what is not None put in the place of its own."""
    return replace(POOLS[pool], **{k: v for k, v in changed.items() if v is not None})
