"""Pinhole cameras: x to the right, y down, z forward; pixel (0, 0) has its centre at (0.5, 0.5)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

NEAR = 0.05  # scene units: what is closer to the camera's plane is not drawn


@dataclass(frozen=True)
class Camera:
    """Where a picture was taken from, and through what.

    Attributes:
        world_to_camera: a rotation and a translation.
        fx, fy: focal lengths in pixels.
        cx, cy: where the optical axis meets the picture, in pixels.
        width, height: of the picture in pixels.
    """

    world_to_camera: Float[Tensor, "4 4"]
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    @property
    def rotation(self) -> Float[Tensor, "3 3"]:
        """World directions to camera directions."""
        return self.world_to_camera[:3, :3]

    @property
    def position(self) -> Float[Tensor, " 3"]:
        """The pinhole in the world."""
        return -self.rotation.T @ self.world_to_camera[:3, 3]

    def to(self, target: torch.device | torch.dtype) -> "Camera":
        """The same camera on a device, or in a precision."""
        moved = self.world_to_camera.to(target)
        return Camera(moved, self.fx, self.fy, self.cx, self.cy, self.width, self.height)

    def pixel_centres(self) -> Float[Tensor, "HW 2"]:
        """x and y of every pixel, row by row."""
        like = self.world_to_camera
        y = torch.arange(self.height, dtype=like.dtype, device=like.device) + 0.5
        x = torch.arange(self.width, dtype=like.dtype, device=like.device) + 0.5
        grid = torch.meshgrid(y, x, indexing="ij")
        return torch.stack([grid[1], grid[0]], -1).reshape(-1, 2)

    def rays(self, pixels: Float[Tensor, "n 2"]) -> Float[Tensor, "n 3"]:
        """World directions through points of the picture, of depth 1: z along the axis is 1."""
        x, y = ((pixels - pixels.new_tensor([self.cx, self.cy])) / pixels.new_tensor(
            [self.fx, self.fy]
        )).unbind(-1)  # fmt: skip
        return torch.stack([x, y, torch.ones_like(x)], -1) @ self.rotation


def look_at(
    position: Float[Tensor, " 3"], target: Float[Tensor, " 3"], up: Float[Tensor, " 3"]
) -> Float[Tensor, "4 4"]:
    """world_to_camera of a camera at `position` that sees `target` in its middle and `up` upwards.

    `up` must not be parallel to the line of sight.
    """
    forward = torch.nn.functional.normalize(target - position, dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=0)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
    matrix = torch.eye(4, dtype=position.dtype)
    matrix[:3, :3], matrix[:3, 3] = rotation, -rotation @ position
    return matrix
