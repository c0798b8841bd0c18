"""What stands around every algorithm's loop: books, environments, validation, the final test.

session = Session(config)                       # a run folder, settled options, environments
start = session.resume(agent=agent, optimizer=optimizer)
for step in session.steps(start):               # one iteration; ends early once it is solved
    rng = session.rng(step)                     # all of its draws follow from (seed, step)
    ...play, learn...
    session.log(step, transitions, loss=loss)
    session.validate(step, agent.policy)
return session.finish(agent, agent.policy)
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from rl.config import TrainConfig
from rl.envs import Envs, check_supported
from rl.evaluate import TEST, VALIDATION, WATCHED, Act, play
from rl.pictures import draw_learning, film, write_gif
from trainloop import Run, load_checkpoint
from trainloop.batches import mix


class Progress:
    """How far a run is. `solved_at`: environment steps when it stopped early, -1 before."""

    def __init__(self) -> None:
        self.env_steps, self.solved_at = 0, -1

    def state_dict(self) -> dict[str, int]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, int]) -> None:
        vars(self).update(state)


class Session[Config: TrainConfig]:
    """One training, seen from the outside.

    Attributes:
        run: trainloop's books.
        config: the options, with the preset's values filled in.
        envs: the environments to learn from.
        env_steps: transitions played so far; reset steps are none.
    """

    def __init__(self, config: Config) -> None:
        """Open or resume the run.

        Raises:
            LabError: nothing to resume, an unknown environment, or one that the algorithm cannot
                work on.
        """
        asked = Run.options("rl", config)
        check_supported(asked.algo, asked.env)
        self.config = asked.settled()
        self.envs = Envs(
            asked.env, self.config.envs, mix(asked.seed, 0), asked.reward,
            self.config.reward_scale, self.config.gamma,
        )  # fmt: skip
        self.run = Run.open("rl", asked)
        self.run.total = self.config.iterations
        torch.set_num_threads(1)  # matrices this small only wait for a second one
        self._progress = Progress()
        self._begun = time.process_time()

    @property
    def env_steps(self) -> int:
        return self._progress.env_steps

    @property
    def remaining(self) -> float:
        """1 at the start, 0 once all environment steps are played."""
        return max(0.0, 1 - self.env_steps / self.config.env_steps)

    def resume(self, **states: Any) -> int:
        """Register what a checkpoint holds, the environments included; load it when resuming."""
        start = self.run.resume(**states, envs=self.envs, progress=self._progress)
        if start > 0:  # seconds are no part of what a run is, so they are kept beside the states
            notes = load_checkpoint(self.run.folder / "last.pt", "rl")["notes"]
            self._begun -= notes["learning_cpu_seconds"]
        return start

    def steps(self, start: int) -> Iterator[int]:
        """Iterations, until a validation has stopped the run or the environment steps are spent."""
        if self._over():  # killed between its last checkpoint and its end
            self.run.total = start
            return
        for step in self.run.steps(start):
            yield step
            if self._over():
                self.run.total = step
                break

    def _over(self) -> bool:
        spent = not self.config.steps and self.env_steps >= self.config.env_steps
        return spent or self._progress.solved_at >= 0

    def rng(self, step: int) -> np.random.Generator:
        """For all of an iteration's draws, so that no generator has to be saved."""
        return np.random.default_rng(mix(self.config.seed, step))

    def log(self, step: int, transitions: int, **values: Any) -> None:
        """Count what was played and write the iteration's line."""
        self._progress.env_steps += transitions
        self._note_seconds()  # Ctrl-C may save at any iteration
        self.run.log(
            step, env_steps=float(self.env_steps), train_return=self.envs.pop_finished(), **values
        )

    def validate(self, step: int, policy: Callable[[], Act]) -> None:
        """When due: play without exploring; keep the best; decide whether that was enough."""
        last = not self.config.steps and self.env_steps >= self.config.env_steps
        if not (self.run.due(step, self.config.eval_every) or last):
            return
        self._note_seconds()
        with self._not_learning():
            episodes = play(policy(), self.config.env, self.config.eval_episodes, VALIDATION)
            mean = float(episodes.returns.mean())
            self.run.log(
                step, **{"val/return": mean, "val/return_std": float(episodes.returns.std())}
            )
            if self.config.early_stop and mean >= self.config.stop_at:
                self._progress.solved_at = self.env_steps
            self.run.save(step, metric=mean)

    def finish(self, agent: nn.Module, policy: Callable[[], Act]) -> dict[str, float | int | None]:
        """Test the best agent once, on episodes that nothing was chosen by; draw; close the books.

        `policy` makes the greedy policy of the agent as it is when called.
        """
        self._note_seconds()
        best = load_checkpoint(self.run.folder / "best.pt", "rl")
        agent.load_state_dict(best["states"]["agent"])
        act = policy()
        episodes = play(act, self.config.env, self.config.eval_episodes, TEST)
        self.run.log(
            self.run.total,
            **{
                "test/return": float(episodes.returns.mean()),
                "test/return_std": float(episodes.returns.std()),
                "test/length": float(episodes.lengths.mean()),
            },
        )
        if self.config.pictures:
            self.run.picture("learning", draw_learning(self.run.folder, self.config))
            with contextlib.suppress(NotImplementedError):  # the environment draws nothing
                frames, _ = film(act, self.config.env, WATCHED)
                write_gif(frames, self.run.folder / "agent.gif")
        return self.run.finish(
            env_steps=self.env_steps,
            stopped_early=int(self._progress.solved_at >= 0),
            learning_cpu_seconds=self.run.notes["learning_cpu_seconds"],
        )

    def _note_seconds(self) -> None:
        """CPU seconds of playing and learning: without imports, validation, test and pictures."""
        self.run.notes["learning_cpu_seconds"] = round(time.process_time() - self._begun, 3)

    @contextlib.contextmanager
    def _not_learning(self) -> Iterator[None]:
        begin = time.process_time()
        yield
        self._begun += time.process_time() - begin
