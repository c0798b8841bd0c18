"""The 3DGS reference implementation's .ply: binary, little-endian, 62 floats a Gaussian.

Opacities are kept as logits, scales as logarithms, quaternions as w x y z; f_rest is by channel,
then by coefficient: f_rest_0..14 are red. Normals are always 0. What is read back is what was
written, bit for bit.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from splatting.gaussians import Gaussians
from splatting.sh import MAX_DEGREE, coefficients
from trainloop import LabError, atomic_write, check

REST = coefficients(MAX_DEGREE) - 1
FIELDS = (
    *("x", "y", "z", "nx", "ny", "nz"),
    *(f"f_dc_{i}" for i in range(3)),
    *(f"f_rest_{i}" for i in range(3 * REST)),
    "opacity",
    *(f"scale_{i}" for i in range(3)),
    *(f"rot_{i}" for i in range(4)),
)
FLOAT = ("float", "float32")
HEADER_LIMIT = 1 << 16  # bytes


def table(gaussians: Gaussians) -> np.ndarray:
    """(N, 62) float32, the columns of FIELDS."""
    t = gaussians.tensors()
    # A ball's own scales differ: what is written is what is drawn.
    scales = gaussians.scales().detach().log() if gaussians.isotropic else t["log_scales"]
    parts = [
        t["means"], torch.zeros_like(t["means"]), t["sh0"][:, 0],
        t["sh_rest"].transpose(1, 2).flatten(1), t["opacity_logits"][:, None], scales,
        t["quaternions"],
    ]  # fmt: skip
    return torch.cat([part.cpu().float() for part in parts], 1).numpy()


def write_ply(path: Path, gaussians: Gaussians) -> None:
    """Write all Gaussians, in their order."""
    values = table(gaussians)
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(values)}"]
    lines += [f"property float {name}" for name in FIELDS]
    header = "\n".join([*lines, "end_header", ""]).encode("ascii")
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda file: file.write(header + values.astype("<f4").tobytes()))


def read_ply(path: Path) -> Gaussians:
    """Gaussians of a .ply with these fields, in any order; fewer f_rest are a lower degree.

    Raises:
        LabError: the file is missing, no such .ply, cut short, or holds what cannot be drawn.
    """
    check(path.is_file(), f"no .ply at {path}")
    content = path.read_bytes()
    end = content.find(b"end_header\n", 0, HEADER_LIMIT)
    check(content.startswith(b"ply") and end > 0, f"{path} is no .ply")
    header = content[:end].decode("ascii", "replace").split("\n")
    check(
        any(line.split() == ["format", "binary_little_endian", "1.0"] for line in header),
        f"{path} is not binary little-endian, as 3DGS files are",
    )
    elements = [line.split() for line in header if line.startswith("element")]
    check(
        len(elements) == 1 and elements[0][:2] == ["element", "vertex"] and len(elements[0]) == 3
        and elements[0][2].isdigit(),
        f"{path} holds other elements than `vertex`: it is no 3DGS file",
    )  # fmt: skip
    properties = [line.split() for line in header if line.startswith("property")]
    names = [words[-1] for words in properties]
    other = [words for words in properties if words[1] not in FLOAT]
    check(
        not other, f"{path}: field {other[0][-1] if other else ''} is not float32, as 3DGS has it"
    )
    rest = sum(name.startswith("f_rest_") for name in names)
    needed = [n for n in FIELDS if not n.startswith(("n", "f_rest_"))]
    needed += [f"f_rest_{i}" for i in range(rest)]
    missing = [name for name in needed if name not in names]
    check(not missing, f"{path} lacks the fields {', '.join(missing[:4])}: it is no 3DGS file")
    check(rest in (0, 9, 24, 45), f"{path} has {rest} fields f_rest: must be 0, 9, 24 or 45")
    count, body = int(elements[0][2]), content[end + len(b"end_header\n") :]
    check(
        len(body) == 4 * count * len(names),
        f"{path} is cut short or has more than it says: {len(body)} bytes for {count} Gaussians",
    )
    check(count > 0, f"{path} holds no Gaussian")
    values = torch.from_numpy(np.frombuffer(body, "<f4").reshape(count, len(names)).astype("f4"))

    def columns(*wanted: str) -> Tensor:
        return values[:, [names.index(name) for name in wanted]]

    sh_rest = torch.zeros(count, REST, 3)
    by_channel = columns(*(f"f_rest_{i}" for i in range(rest))).reshape(count, 3, rest // 3)
    sh_rest[:, : rest // 3] = by_channel.transpose(1, 2)
    found = Gaussians(
        means=columns("x", "y", "z"),
        quaternions=columns(*(f"rot_{i}" for i in range(4))),
        log_scales=columns(*(f"scale_{i}" for i in range(3))),
        opacity_logits=columns("opacity")[:, 0],
        sh0=columns(*(f"f_dc_{i}" for i in range(3)))[:, None],
        sh_rest=sh_rest,
    )
    for name, tensor in found.tensors().items():
        bad = (~torch.isfinite(tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None])).any(1)
        if bool(bad.any()):
            raise LabError(f"{path}: {name} of Gaussian {int(bad.nonzero()[0])} is not finite")
    zero = (found.quaternions.detach() == 0).all(1)
    if bool(zero.any()):
        raise LabError(f"{path}: the quaternion of Gaussian {int(zero.nonzero()[0])} is zero")
    return found
