"""A picture of Gaussians through a camera, by one of three rasterisers."""

from dataclasses import dataclass
from importlib.util import find_spec

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from splatting import reference, sh, tiles
from splatting.camera import NEAR, Camera
from splatting.gaussians import Gaussians
from splatting.projection import PIXEL_VARIANCE, Projected, project
from trainloop import LabError, check

BLENDERS = {"reference": reference.blend, "tiles": tiles.blend}


@dataclass(frozen=True)
class Rendering:
    """A picture, and what density control wants to know about it.

    Attributes:
        image: RGB, 0 and up.
        index: the M Gaussians that may touch the picture.
        means2d: their centres in pixels, or those of all N (gsplat).
    """

    image: Float[Tensor, "H W 3"]
    index: Int64[Tensor, " M"]
    means2d: Tensor

    def pull(self) -> Float[Tensor, "M 2"]:
        """The loss's gradient by each centre in 1/px, after a backward pass."""
        gradient = self.means2d.grad.reshape(-1, 2)
        return gradient if len(gradient) == len(self.index) else gradient[self.index]


@dataclass(frozen=True, kw_only=True)
class Renderer:
    """How to make pictures.

    Attributes:
        backend: tiles (compiled, CPU), reference (plain torch), or gsplat (CUDA).
        pixel_variance: see `projection.project`.
        by_depth: False blends in the order in which the Gaussians are stored, which is wrong.
    """

    backend: str = "tiles"
    pixel_variance: float = PIXEL_VARIANCE
    by_depth: bool = True

    def check(self, device: torch.device) -> None:
        """LabError where this backend cannot run on that device."""
        if self.backend == "gsplat":
            check(
                find_spec("gsplat") is not None, "--backend gsplat: `uv pip install gsplat` first"
            )
            check(device.type == "cuda", f"--backend gsplat needs --device cuda, not {device.type}")
            check(self.by_depth, "--backend gsplat always sorts by depth: leave out --unsorted")
        elif self.backend == "tiles":
            check(device.type == "cpu", f"--backend tiles runs on the CPU, not on {device.type}")

    def __call__(
        self,
        gaussians: Gaussians,
        camera: Camera,
        background: Float[Tensor, " 3"],
        degree: int = sh.MAX_DEGREE,
    ) -> Rendering:
        """Render, differentiably."""
        if self.backend == "gsplat":
            return self._gsplat(gaussians, camera, background, degree)
        seen = project(gaussians, camera, degree, self.pixel_variance)
        if seen.means2d.requires_grad:
            seen.means2d.retain_grad()
        return Rendering(
            self._blend(seen, seen.colours, camera, background), seen.index, seen.means2d
        )

    @torch.no_grad()
    def depth_and_alpha(
        self, gaussians: Gaussians, camera: Camera
    ) -> tuple[Float[Tensor, "H W"], Float[Tensor, "H W"]]:
        """Mean depth of what covers each pixel (0 where nothing does), and how much is covered."""
        if self.backend == "gsplat":
            raise LabError("depth is not read from gsplat here: use --backend tiles on the CPU")
        seen = project(gaussians, camera, 0, self.pixel_variance)
        one = torch.ones_like(seen.depths)
        values = torch.stack([seen.depths, one, torch.zeros_like(one)], -1)
        sums = self._blend(seen, values, camera, values.new_zeros(3))
        return sums[..., 0] / sums[..., 1].clamp(min=1e-6), sums[..., 1]

    def _blend(
        self, seen: Projected, values: Tensor, camera: Camera, background: Tensor
    ) -> Float[Tensor, "H W 3"]:
        return BLENDERS[self.backend](
            seen.means2d, seen.conics, values, seen.opacities, seen.order(self.by_depth),
            background, camera.width, camera.height,
        )  # fmt: skip

    def _gsplat(
        self, gaussians: Gaussians, camera: Camera, background: Tensor, degree: int
    ) -> Rendering:
        """Written against gsplat 1.5.3's documentation; never run, for want of a CUDA card."""
        from gsplat import rasterization

        intrinsics = background.new_tensor(
            [[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]]
        )
        images, _, meta = rasterization(
            gaussians.means,
            gaussians.quaternions,
            gaussians.scales(),
            gaussians.opacities(),
            gaussians.sh(),
            camera.world_to_camera[None],
            intrinsics[None],
            camera.width,
            camera.height,
            near_plane=NEAR,
            eps2d=self.pixel_variance,
            sh_degree=degree,
            backgrounds=background[None],
            packed=False,
        )
        means2d = meta["means2d"]  # (1, N, 2)
        if means2d.requires_grad:
            means2d.retain_grad()
        radii = meta["radii"].reshape(len(gaussians), -1)  # one each, or one an axis
        index = (radii > 0).all(1).nonzero().squeeze(1)
        return Rendering(images[0], index, means2d)
