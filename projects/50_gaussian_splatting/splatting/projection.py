"""From the world to the picture: EWA splatting (Zwicker 2001), as in Kerbl 2023.

Both rasterisers share this, so gradients from pixels to 3-D parameters differ between them only in
how they blend.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from splatting import sh
from splatting.camera import NEAR, Camera
from splatting.gaussians import Gaussians

ALPHA_MIN = 1 / 255  # what covers less of a pixel is not drawn: half a step of an 8-bit picture
ALPHA_MAX = 0.99  # keeps 1 - alpha, by which gradients divide, away from 0
PIXEL_VARIANCE = 0.3  # px^2
FRUSTUM_MARGIN = 1.3  # the Jacobian is taken no farther out than 1.3 times the picture's edge


@dataclass(frozen=True)
class Projected:
    """The M of N Gaussians that may touch the picture.

    Attributes:
        index: which of the N they are.
        means2d: centres in pixels.
        conics: a, b, c of the inverse 2-D covariance [[a, b], [b, c]] in 1/px^2.
        depths: z of the centres in the camera.
        opacities: in (0, 1).
        colours: RGB, at least 0.
    """

    index: Int64[Tensor, " M"]
    means2d: Float[Tensor, "M 2"]
    conics: Float[Tensor, "M 3"]
    depths: Float[Tensor, " M"]
    opacities: Float[Tensor, " M"]
    colours: Float[Tensor, "M 3"]

    def order(self, by_depth: bool = True) -> Int64[Tensor, " M"]:
        """Front to back by the centres' depth (ties in their own order), or simply 0 .. M-1."""
        if not by_depth:
            return torch.arange(len(self.depths), device=self.depths.device)
        return torch.argsort(self.depths.detach(), stable=True)


def project(
    gaussians: Gaussians,
    camera: Camera,
    degree: int = sh.MAX_DEGREE,
    pixel_variance: float = PIXEL_VARIANCE,
) -> Projected:
    """Cull, project, and colour.

    Args:
        degree: of the spherical harmonics, 0 to 3.
        pixel_variance: in px^2, added to both axes of every 2-D covariance: a pixel is no point but
            a small window, and a Gaussian thinner than it would fall between the centres.
    """
    near = in_camera(gaussians.means, camera)  # (N, 3)
    index = (near[:, 2] > NEAR).nonzero().squeeze(1)
    # A gather of all is a copy in the forward and a slow scatter in the backward pass.
    take = (lambda t: t) if len(index) == len(gaussians) else (lambda t: t[index])
    near, half = take(near), take(gaussians.half_covariances())
    opacities = take(gaussians.opacities())

    x, y, z = near.unbind(-1)
    means2d = torch.stack([camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy], -1)
    a, b, c = covariances2d(half, near, camera, pixel_variance).unbind(-1)

    with torch.no_grad():  # exact: alpha >= ALPHA_MIN inside d^T conic d <= reach, and only there
        reach = 2 * (opacities / ALPHA_MIN).clamp(min=1e-9).log()
        wide, high = (reach.clamp(min=0) * a).sqrt(), (reach.clamp(min=0) * c).sqrt()
        touches = (reach > 0) & (means2d[:, 0] + wide > 0) & (means2d[:, 1] + high > 0)
        touches &= (means2d[:, 0] - wide < camera.width) & (means2d[:, 1] - high < camera.height)
        kept = touches.nonzero().squeeze(1)
    if len(kept) < len(index):
        index = index[kept]
        means2d, near_z, opacities = means2d[kept], z[kept], opacities[kept]
        a, b, c = a[kept], b[kept], c[kept]
    else:
        near_z = z
    determinant = a * c - b * b
    conics = torch.stack([c, -b, a], -1) / determinant[:, None]

    everything = len(index) == len(gaussians)
    means = gaussians.means if everything else gaussians.means[index]
    coefficients = gaussians.sh() if degree > 0 else gaussians.sh0
    coefficients = coefficients if everything else coefficients[index]
    directions = torch.nn.functional.normalize(means - camera.position, dim=-1)
    return Projected(
        index, means2d, conics, near_z, opacities, sh.colours(degree, coefficients, directions)
    )


def in_camera(points: Float[Tensor, "N 3"], camera: Camera) -> Float[Tensor, "N 3"]:
    """World points in the camera's axes; z is the depth."""
    return points @ camera.rotation.T + camera.world_to_camera[:3, 3]


def covariances2d(
    half_covariances: Float[Tensor, "N 3 3"],
    near: Float[Tensor, "N 3"],
    camera: Camera,
    pixel_variance: float = PIXEL_VARIANCE,
) -> Float[Tensor, "N 3"]:
    """Variance in x, covariance, variance in y of what each Gaussian's picture is, in px^2.

    Around its centre the perspective division is replaced by its Jacobian J (Zwicker 2001, eq. 29;
    Kerbl 2023, eq. 5): covariance' = J W M M^T W^T J^T, which is U U^T with U = J W M.

    Args:
        half_covariances: M of each Gaussian, whose covariance is M M^T.
        near: centres in the camera's axes, z > 0.
    """
    x, y, z = near.unbind(-1)
    limit_x = FRUSTUM_MARGIN * max(camera.cx, camera.width - camera.cx) / camera.fx
    limit_y = FRUSTUM_MARGIN * max(camera.cy, camera.height - camera.cy) / camera.fy
    tx, ty = (x / z).clamp(-limit_x, limit_x), (y / z).clamp(-limit_y, limit_y)
    turned = camera.rotation @ half_covariances  # W M: (N, 3, 3)
    # J = [[fx/z, 0, -fx x/z^2], [0, fy/z, -fy y/z^2]]
    u = (camera.fx / z)[:, None] * (turned[:, 0] - tx[:, None] * turned[:, 2])  # (N, 3)
    v = (camera.fy / z)[:, None] * (turned[:, 1] - ty[:, None] * turned[:, 2])
    return torch.stack(
        [u.square().sum(1) + pixel_variance, (u * v).sum(1), v.square().sum(1) + pixel_variance], -1
    )


def field_of_view(camera: Camera) -> float:
    """Horizontal, in degrees."""
    return 2 * math.degrees(math.atan(camera.width / 2 / camera.fx))
