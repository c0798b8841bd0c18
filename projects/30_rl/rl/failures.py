"""The gallery's failures: what is switched, what to look at. No torch here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """One thing done wrong, beside the same training without it.

    Attributes:
        title: what is wrong.
        base: which healthy training it is held against, of `BASES`.
        options: words added to the healthy training's; none for seed luck, which takes other seeds.
        metric: the curve that tells.
        label: what that curve shows.
        look: two sentences for whoever looks at the picture.
    """

    title: str
    base: str
    options: tuple[str, ...]
    metric: str
    label: str
    look: str


BASES = {
    "dqn": ("--algo=dqn", "--env-steps=12000", "--eval-every=3"),
    "ppo": ("--algo=ppo", "--env-steps=30000"),
    "limit": (
        "--algo=dqn",
        "--env=probe/Limit-v0",
        "--env-steps=12000",
        "--eval-every=4",
        "--lr=0.01",
        "--tau=0.1",  # 100 is far from 0
    ),
}
"""Healthy trainings: CartPole-v1 and the preset's settings but for these words."""

FAILURES = {
    "no-target-network": Failure(
        "no target network", "dqn", ("--no-target-network",), "value", "mean max Q",
        "Q chases its own tail: each update moves the goal that the next one aims at. Look at mean "
        "max Q, which no policy can bring above 1 / (1 - gamma) = 100.",
    ),
    "no-replay": Failure(
        "no replay buffer", "dqn", ("--no-replay",), "td_error", "mean |Q - target|",
        "The last 256 transitions are all alike, and the network forgets the rest. The error on "
        "them is small while the return goes up and down.",
    ),
    "reward-unscaled": Failure(
        "rewards x 100", "dqn", ("--reward-scale=100",), "grad_norm", "length of the gradient",
        "Values of 10,000 have to be reached in steps of the size that suited 100. The gradient is "
        "cut to its limit at every update.",
    ),
    "epsilon-too-fast": Failure(
        "epsilon gone after 256 steps", "dqn",
        ("--epsilon-steps=256", "--epsilon-end=0"), "train_return", "return while exploring",
        "What is never tried is never learned: the buffer fills with what the first guess does. "
        "Look at the start, and at how far the seeds lie apart.",
    ),
    "no-advantage-normalisation": Failure(
        "advantages not normalised", "ppo", ("--no-normalise-advantages",), "grad_norm",
        "length of the gradient",
        "The size of the policy's gradient follows the returns, which grow as the agent gets "
        "better. Clipping it hides that: the direction is then the critic's.",
    ),
    "value-clipping": Failure(
        "value clipping at 0.2", "ppo", ("--clip-value=0.2",), "explained_variance",
        "explained variance",
        "A clip of 0.2 was made for normalised returns; here values lie near 50 and may move 0.2 "
        "an iteration. Explained variance stays near 0: the advantages are noise.",
    ),
    "learning-rate": Failure(
        "learning rate x 30", "ppo", ("--lr=0.09",), "approx_kl", "approximate KL",
        "The clip bounds the objective, not the step: one minibatch moves the policy far out of "
        "trust. KL explodes, entropy is gone, and nothing is tried any more.",
    ),
    "truncation": Failure(
        "a time limit taken for an end", "limit", ("--no-bootstrap-truncated",), "value",
        "mean max Q",
        "Each step of this probe pays 1 and only the time limit ends it, so every state is worth "
        "100. Who takes the limit for an end learns 3, and that from states which look alike.",
    ),
    "seed-luck": Failure(
        "nothing: other seeds", "dqn", (), "train_return", "return while exploring",
        "Both colours are the same code with the same settings. Whatever difference you see is "
        "what a comparison of so few seeds cannot tell from progress.",
    ),
}  # fmt: skip
