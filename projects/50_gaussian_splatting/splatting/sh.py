"""Real spherical harmonics to degree 3: a colour that depends on where one looks from.

The basis, its order and its signs are those of the 3DGS reference implementation (they go back to
Ramamoorthi & Hanrahan 2001), so that .ply files mean the same here and there.
"""

import torch
from jaxtyping import Float
from torch import Tensor

MAX_DEGREE = 3
C0 = 0.28209479177387814  # sqrt(1 / (4 pi))
C1 = 0.4886025119029199  # sqrt(3 / (4 pi))
C2 = (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)
C3 = (0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154,
      1.445305721320277)  # fmt: skip


def coefficients(degree: int) -> int:
    """How many basis functions there are up to a degree: 1, 4, 9, 16."""
    return (degree + 1) ** 2


def basis(degree: int, directions: Float[Tensor, "N 3"]) -> Float[Tensor, "N K"]:
    """The first K = (degree + 1)^2 harmonics at unit directions; degree 0 to 3."""
    x, y, z = directions.unbind(-1)
    found = [torch.full_like(x, C0)]
    if degree >= 1:
        found += [-C1 * y, C1 * z, -C1 * x]
    if degree >= 2:
        xx, yy, zz = x * x, y * y, z * z
        found += [C2[0] * x * y, -C2[0] * y * z, C2[1] * (2 * zz - xx - yy), -C2[0] * x * z,
                  C2[2] * (xx - yy)]  # fmt: skip
    if degree >= 3:
        found += [
            -C3[0] * y * (3 * xx - yy),
            C3[1] * x * y * z,
            -C3[2] * y * (4 * zz - xx - yy),
            C3[3] * z * (2 * zz - 3 * xx - 3 * yy),
            -C3[2] * x * (4 * zz - xx - yy),
            C3[4] * z * (xx - yy),
            -C3[0] * x * (xx - 3 * yy),
        ]
    return torch.stack(found, -1)


def colours(
    degree: int, sh: Float[Tensor, "N K 3"], directions: Float[Tensor, "N 3"]
) -> Float[Tensor, "N 3"]:
    """RGB seen along unit directions from the camera, at least 0; harmonics beyond `degree` rest.

    Zero coefficients are middle grey: 0.5 is added, as in the reference implementation.
    """
    used = basis(degree, directions)  # (N, k)
    return (torch.einsum("nk,nkc->nc", used, sh[:, : used.shape[1]]) + 0.5).clamp(min=0)


def from_rgb(rgb: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3"]:
    """The coefficient of degree 0 whose colour is `rgb` from everywhere."""
    return (rgb - 0.5) / C0
