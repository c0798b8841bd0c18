"""The scene: a set of 3-D Gaussians with opacity and colour, in the parameters that are learned."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from splatting.sh import MAX_DEGREE, coefficients, from_rgb

PARAMETERS = ("means", "quaternions", "log_scales", "opacity_logits", "sh0", "sh_rest")


class Gaussians(nn.Module):
    """N Gaussians.

    Attributes:
        means: (N, 3) in scene units.
        quaternions: (N, 4) as w x y z, of any length but 0.
        log_scales: (N, 3) logarithms of the standard deviations along the Gaussian's own axes.
        opacity_logits: (N,).
        sh0: (N, 1, 3) and sh_rest: (N, 15, 3), harmonics of degree 0 and of degrees 1 to 3.
        isotropic: whether each Gaussian is a ball, of the mean of its three log-scales.
    """

    def __init__(self, isotropic: bool = False, **tensors: Tensor) -> None:
        """Of the six tensors above, by name."""
        super().__init__()
        self.isotropic = isotropic
        for name in PARAMETERS:
            self.register_parameter(name, nn.Parameter(tensors[name].detach().clone()))

    def __len__(self) -> int:
        return self.means.shape[0]

    def scales(self) -> Float[Tensor, "N 3"]:
        """Standard deviations along the three axes, in scene units."""
        logs = self.log_scales
        if self.isotropic:
            logs = logs.mean(1, keepdim=True).expand_as(logs)
        return logs.exp()

    def opacities(self) -> Float[Tensor, " N"]:
        """In (0, 1): alpha at the Gaussian's centre."""
        return self.opacity_logits.sigmoid()

    def sh(self) -> Float[Tensor, "N K 3"]:
        """All harmonics, K = 16."""
        return torch.cat([self.sh0, self.sh_rest], 1)

    def half_covariances(self) -> Float[Tensor, "N 3 3"]:
        """M = R S, so that the covariance is M M^T (Kerbl 2023, eq. 6): never negative."""
        return rotations(self.quaternions) * self.scales()[:, None, :]

    def tensors(self) -> dict[str, Tensor]:
        """The six tensors by name, without gradients."""
        return {name: getattr(self, name).detach() for name in PARAMETERS}

    def load_state_dict(self, state_dict: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Also of another number of Gaussians: density control changes it as a run goes on."""
        for name in PARAMETERS:
            parameter, saved = getattr(self, name), state_dict[name]
            if parameter.shape[1:] == saved.shape[1:]:
                parameter.data = parameter.new_empty(saved.shape)
        return super().load_state_dict(state_dict, *args, **kwargs)


def rotations(quaternions: Float[Tensor, "N 4"]) -> Float[Tensor, "N 3 3"]:
    """Rotation matrices of quaternions w x y z, which need not have length 1."""
    w, x, y, z = nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    rows = [
        1 - 2 * (yy + zz), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (xx + zz), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (xx + yy),
    ]  # fmt: skip
    return torch.stack(rows, -1).reshape(-1, 3, 3)


def from_points(
    points: Float[Tensor, "N 3"],
    rgb: Float[Tensor, "N 3"],
    opacity: float = 0.1,
    isotropic: bool = False,
) -> Gaussians:
    """A ball at each point, as wide as the mean distance of its three nearest neighbours.

    Args:
        points: at least 4, in scene units.
        rgb: in [0, 1].
    """
    n = len(points)
    nearest = torch.cdist(points, points).topk(4, largest=False).values[:, 1:]  # less itself
    width = nearest.square().mean(1).sqrt().clamp(min=1e-4)
    return Gaussians(
        isotropic,
        means=points,
        quaternions=points.new_tensor([1.0, 0, 0, 0]).repeat(n, 1),
        log_scales=width.log()[:, None].repeat(1, 3),
        opacity_logits=points.new_full((n,), opacity).logit(),
        sh0=from_rgb(rgb)[:, None],
        sh_rest=points.new_zeros(n, coefficients(MAX_DEGREE) - 1, 3),
    )
