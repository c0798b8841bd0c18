"""A page that shows Gaussians: hand-written WebGL 2, one file, no network."""

import base64
import json
import math
import webbrowser
from importlib.resources import files

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from splatting.camera import Camera
from splatting.config import TrainConfig, ViewConfig
from splatting.data import load
from splatting.evaluate import load_gaussians
from splatting.figures import orbit, surroundings
from splatting.gaussians import Gaussians
from splatting.projection import PIXEL_VARIANCE
from splatting.sh import MAX_DEGREE
from trainloop import atomic_write

TEXELS = 20  # of four floats, for each Gaussian: see `pack`


def pack(gaussians: Gaussians) -> bytes:
    """What the page's shader reads: 20 texels RGBA a Gaussian, float32, little-endian.

    0: mean, opacity. 1 and 2: covariance xx xy xz yy, yz zz. 3 to 18: one harmonic each, RGB.
    """
    half = gaussians.half_covariances()
    covariance = (half @ half.mT).detach().numpy()
    values = np.zeros((len(gaussians), TEXELS, 4), "<f4")
    values[:, 0, :3] = gaussians.means.detach().numpy()
    values[:, 0, 3] = gaussians.opacities().detach().numpy()
    values[:, 1] = covariance[:, [0, 0, 0, 1], [0, 1, 2, 1]]
    values[:, 2, :2] = covariance[:, [1, 2], [2, 2]]
    values[:, 3:19, :3] = gaussians.sh().detach().numpy()
    return values.tobytes()


def page(
    gaussians: Gaussians,
    camera: Camera,
    target: Float[Tensor, " 3"],
    up: Float[Tensor, " 3"],
    background: Float[Tensor, " 3"],
    degree: int = MAX_DEGREE,
    pixel_variance: float = PIXEL_VARIANCE,
    title: str = "Gaussians",
) -> str:
    """The HTML. It begins at `camera`, and turns round the line through `target` along `up`.

    With `#still` behind its address the page does not turn by itself; with `#bare` it also shows
    no controls.
    """
    scene = {
        "title": title,
        "count": len(gaussians),
        "texels": TEXELS,
        "degree": degree,
        "pixelVariance": pixel_variance,
        "background": background.tolist(),
        "position": camera.position.tolist(),
        "target": target.tolist(),
        "up": up.tolist(),
        "fieldOfView": math.degrees(2 * math.atan(camera.height / 2 / camera.fy)),
        "splats": base64.b64encode(pack(gaussians)).decode("ascii"),
    }
    template = files("splatting").joinpath("viewer.html").read_text("utf-8")
    # `<` could end the script element early; in JSON it may be written as an escape.
    return template.replace("__SCENE__", json.dumps(scene).replace("<", "\\u003c"))


def view(config: ViewConfig) -> None:
    """Write the page, with the training views' camera where they are known."""
    gaussians, trained = load_gaussians(config.model)
    if trained:
        options = TrainConfig(**{**trained, "resume": False, "device": "cpu", "backend": "tiles"})
        scene = load(options.data, options.size, options.points)
        camera, background = orbit(scene.train, 1, 512)[0], scene.background
        target, up = surroundings(scene.train)
        degree, variance = options.sh_degree, options.pixel_variance
    else:
        camera, target = guessed_camera(gaussians)
        up = torch.tensor([0.0, -1.0, 0.0])
        background, degree, variance = torch.zeros(3), MAX_DEGREE, PIXEL_VARIANCE
    title = f"{len(gaussians):,} Gaussians"
    text = page(gaussians, camera, target, up, background, degree, variance, title)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(config.out, lambda file: file.write(text.encode()))
    print(f"{config.out}: {title}, {len(text) / 1e6:.2f} MB")
    if config.open:
        webbrowser.open(config.out.absolute().as_uri())


def guessed_camera(gaussians: Gaussians) -> tuple[Camera, Float[Tensor, " 3"]]:
    """For a .ply, which knows no cameras: in front of the middle, y down as COLMAP has it."""
    means = gaussians.means.detach()
    target = means.median(0).values
    radius = float((means - target).norm(dim=1).quantile(0.8)) + 1e-3
    matrix = torch.eye(4)
    matrix[:3, 3] = -(target - torch.tensor([0.0, 0.0, 2.2 * radius]))
    return Camera(matrix, 550.0, 550.0, 256.0, 256.0, 512, 512), target
