"""How the set of Gaussians changes: clone, split, prune, reset; or MCMC; or not at all.

Both strategies are called at every step between `backward` and `optimizer.step`, and change
parameters and Adam's averages together, row for row.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from splatting.camera import Camera
from splatting.config import TrainConfig
from splatting.gaussians import PARAMETERS, Gaussians, rotations
from splatting.render import Rendering
from trainloop import LabError

DEAD = 0.005  # opacity below which a Gaussian is pruned or moved
RESET = 0.01  # what opacities are set back to: twice what would be pruned
SMALL = 0.01  # of the extent: smaller ones are cloned, larger ones split
HUGE = 0.5  # of the extent: larger ones are pruned (the paper's 0.1 would take the table apart)
SHRINK = 1.6  # the two parts of a split are smaller by this factor (Kerbl 2023, section 5.2)
WARM_UP = 300  # steps before the first change

GROWTH = 1.05  # MCMC: the set grows by 5% a time
NOISE_LR = 5e4  # MCMC: of the centres' learning rate (Kheradmand 2024, section 3.1)
NOISE_SHARPNESS, NOISE_CENTRE = 100.0, 0.995  # noise is for Gaussians that hardly cover anything
MOST_COPIES = 51


AVERAGES = ("exp_avg", "exp_avg_sq")


class Rows:
    """Parameters and Adam's two averages, changed together."""

    def __init__(self, gaussians: Gaussians, optimizer: torch.optim.Optimizer) -> None:
        self.gaussians, self.optimizer = gaussians, optimizer

    def _each(self, parameters: dict[str, Tensor], average: Callable[[Tensor], Tensor]) -> None:
        """Put new tensors in the place of the parameters, and bring their averages along.

        New Parameters, since the step's graph still knows the shape of the old ones.
        """
        for group in self.optimizer.param_groups:
            name, old = group["name"], group["params"][0]
            new = torch.nn.Parameter(parameters[name])
            setattr(self.gaussians, name, new)
            group["params"][0] = new
            if old in self.optimizer.state:
                state = self.optimizer.state.pop(old)
                for key in AVERAGES:
                    state[key] = average(state[key])
                self.optimizer.state[new] = state

    def keep(self, rows: Tensor) -> None:
        """Only these rows, by index or mask."""
        self._each(
            {name: tensor[rows] for name, tensor in self.gaussians.tensors().items()},
            lambda average: average[rows],
        )

    def add(self, new: dict[str, Tensor]) -> None:
        """More rows at the end; their averages begin at 0."""
        tensors = self.gaussians.tensors()
        count = len(new["means"])
        self._each(
            {name: torch.cat([tensors[name], new[name]]) for name in PARAMETERS},
            lambda average: torch.cat([average, average.new_zeros(count, *average.shape[1:])]),
        )

    def forget(self, name: str, rows: Tensor | None = None) -> None:
        """Set a parameter's averages to 0, of all rows or of some."""
        state = self.optimizer.state.get(getattr(self.gaussians, name), {})
        for key in AVERAGES:
            if key in state:
                state[key][slice(None) if rows is None else rows] = 0


class Fixed:
    """No density control."""

    def __init__(self, rows: Rows, config: TrainConfig, extent: float) -> None:
        self.rows, self.config, self.extent = rows, config, extent

    def regulariser(self) -> Float[Tensor, ""] | float:
        """What the strategy adds to the loss."""
        return 0.0

    def before_step(self, step: int, rendering: Rendering, camera: Camera) -> None:
        """Called with gradients at hand, before the optimiser uses them."""

    def after_step(self, step: int, lr_means: float) -> None:
        """Called when the optimiser is done: the set may change here."""

    def refines(self, step: int) -> bool:
        """Whether this is a step at which the set changes."""
        last = self.config.refine_until * self.config.steps
        return WARM_UP < step <= last and step % self.config.refine_every == 0

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to remember."""


class Adaptive(Fixed):
    """Kerbl 2023, section 5: where the loss pulls hard at a centre, detail is missing.

    The mean norm of dLoss/dmean2d over the views that saw a Gaussian is what it sees. Above the
    threshold a small Gaussian is cloned (Adam moves the two apart) and a large one split in two,
    drawn from itself. The strongest pulls come first where `max_gaussians` leaves no room for all.
    """

    def __init__(self, rows: Rows, config: TrainConfig, extent: float) -> None:
        super().__init__(rows, config, extent)
        self.pull = rows.gaussians.means.new_zeros(len(rows.gaussians))
        self.views = torch.zeros_like(self.pull)

    def before_step(self, step: int, rendering: Rendering, camera: Camera) -> None:
        """Note how the picture pulls at each centre, in halves of the picture."""
        half = rendering.means2d.new_tensor([camera.width / 2, camera.height / 2])
        norm = (rendering.pull() * half).norm(dim=1)
        self.pull.index_add_(0, rendering.index, norm)
        self.views.index_add_(0, rendering.index, torch.ones_like(norm))

    def mean_pull(self) -> Float[Tensor, " N"]:
        """What densification sees."""
        return self.pull / self.views.clamp(min=1)

    @torch.no_grad()
    def after_step(self, step: int, lr_means: float) -> None:
        if self.refines(step):
            self._grow()
            if self.config.without != "prune":
                self._prune(step)
            self.pull = self.rows.gaussians.means.new_zeros(len(self.rows.gaussians))
            self.views = torch.zeros_like(self.pull)
        every, last = self.config.reset_every, self.config.refine_until * self.config.steps
        if every and step % every == 0 and step <= last - every / 2:  # else no time to come back
            logits = self.rows.gaussians.opacity_logits
            logits.clamp_(max=math.log(RESET / (1 - RESET)))
            self.rows.forget("opacity_logits")

    def _grow(self) -> None:
        gaussians = self.rows.gaussians
        pull, scales = self.mean_pull(), gaussians.scales()
        room = self.config.max_gaussians - len(gaussians)
        large = scales.amax(1) > SMALL * self.extent
        chosen = pull > self.config.grad_threshold
        if self.config.without == "clone":
            chosen &= large
        if self.config.without == "split":
            chosen &= ~large
        if int(chosen.sum()) > room:
            rank = torch.where(chosen, pull, -1).argsort(descending=True, stable=True)
            chosen = torch.zeros_like(chosen)
            chosen[rank[:room]] = True
        clone, split = chosen & ~large, chosen & large
        tensors = gaussians.tensors()
        copies = {name: tensor[clone] for name, tensor in tensors.items()}
        parts = {name: tensor[split].repeat(2, *[1] * (tensor.ndim - 1)) for name, tensor in
                 tensors.items()}  # fmt: skip
        spread = torch.randn_like(parts["means"]) * scales[split].repeat(2, 1)
        turned = rotations(parts["quaternions"]) @ spread[:, :, None]
        parts["means"] = parts["means"] + turned.squeeze(2)
        parts["log_scales"] = parts["log_scales"] - math.log(SHRINK)
        self.rows.keep(~split)
        self.rows.add({name: torch.cat([copies[name], parts[name]]) for name in PARAMETERS})

    def _prune(self, step: int) -> None:
        gaussians = self.rows.gaussians
        gone = gaussians.opacities() < DEAD
        gone |= gaussians.scales().amax(1) > HUGE * self.extent
        if bool(gone.all()):
            raise LabError(
                f"pruning at step {step} left no Gaussian: the pictures and cameras may not match, "
                "or try --init points, a lower --lr-means, or --fixed"
            )
        self.rows.keep(~gone)

    def state_dict(self) -> dict[str, Any]:
        return {"pull": self.pull, "views": self.views}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.pull, self.views = state["pull"].clone(), state["views"].clone()


class Mcmc(Fixed):
    """3DGS as Markov chain Monte Carlo (Kheradmand 2024).

    The Gaussians are samples: noise moves those that cover nothing, and dead ones are put where
    living ones are, such that the picture does not change. No threshold, no reset.
    """

    WEIGHT = 0.01  # of the mean opacity and the mean scale in the loss

    def regulariser(self) -> Float[Tensor, ""]:
        """Opacity and size cost something, so that what is not needed dies (eq. 11)."""
        gaussians = self.rows.gaussians
        return self.WEIGHT * (gaussians.opacities().mean() + gaussians.scales().mean())

    @torch.no_grad()
    def after_step(self, step: int, lr_means: float) -> None:
        gaussians = self.rows.gaussians
        if self.refines(step):
            dead = gaussians.opacities() <= DEAD
            if bool(dead.all()):
                raise LabError(f"at step {step} no Gaussian is left alive: try a lower --lr-means")
            self._relocate(dead)
            count = min(self.config.max_gaussians, int(GROWTH * len(gaussians))) - len(gaussians)
            if count > 0:
                self._add(count)
        # Noise with the Gaussian's own covariance (eq. 9), for those of low opacity.
        gate = torch.sigmoid(
            NOISE_SHARPNESS * (1 - gaussians.opacities() - NOISE_CENTRE)
        )  # 1 - o against 0.995
        half = gaussians.half_covariances()
        noise = torch.randn_like(gaussians.means) * (gate * NOISE_LR * lr_means)[:, None]
        gaussians.means += (half @ (half.mT @ noise[:, :, None])).squeeze(2)

    def _share(self, source: Int64[Tensor, " n"]) -> None:
        """Give Gaussians that become several the opacity and size at which the sum looks the same.

        `source` names each of them once for each copy that is made of it.
        """
        gaussians = self.rows.gaussians
        times = torch.bincount(source, minlength=len(gaussians)).clamp(max=MOST_COPIES - 1) + 1
        several = (times > 1).nonzero().squeeze(1)
        opacity, factor = shared(gaussians.opacities()[several], times[several])
        gaussians.opacity_logits[several] = opacity.clamp(DEAD, 1 - 1e-4).logit()
        gaussians.log_scales[several] += factor.log()[:, None]
        for name in PARAMETERS:
            self.rows.forget(name, several)

    def _relocate(self, dead: Bool[Tensor, " N"]) -> None:
        if not bool(dead.any()):
            return
        gaussians = self.rows.gaussians
        weights = torch.where(dead, 0, gaussians.opacities())
        source = torch.multinomial(weights, int(dead.sum()), replacement=True)
        self._share(source)
        for name in PARAMETERS:
            parameter = getattr(gaussians, name)
            parameter[dead] = parameter[source]
            self.rows.forget(name, dead)

    def _add(self, count: int) -> None:
        source = torch.multinomial(self.rows.gaussians.opacities(), count, replacement=True)
        self._share(source)
        self.rows.add({name: t[source] for name, t in self.rows.gaussians.tensors().items()})


def shared(
    opacity: Float[Tensor, " n"], times: Int64[Tensor, " n"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Opacity and factor on the scales of `times` Gaussians in one place that look like one.

    Kheradmand 2024, eq. 8: (1 - o')^N = 1 - o, and scales such that the covered area along a line
    through the middle is the same, with
    o / factor = sum_{i=1}^{N} sum_{k=0}^{i-1} C(i-1, k) (-1)^k o'^{k+1} / sqrt(k+1).
    """
    opacity = opacity.double()
    new = 1 - (1 - opacity) ** (1 / times)
    area = torch.zeros_like(new)
    for i in range(1, int(times.max()) + 1 if len(times) else 1):
        inner = torch.zeros_like(new)
        for k in range(i):
            inner += math.comb(i - 1, k) * (-1) ** k * new ** (k + 1) / math.sqrt(k + 1)
        area += torch.where(times >= i, inner, 0)
    return new.float(), (opacity / area).float()


def strategy(rows: Rows, config: TrainConfig, extent: float) -> Fixed:
    """The one that the options ask for."""
    kind = Fixed if config.fixed else Mcmc if config.mcmc else Adaptive
    return kind(rows, config, extent)
