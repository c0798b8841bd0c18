"""From 3-D to 2-D: against autograd's Jacobian, scipy, and by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y

from splatting import sh
from splatting.camera import look_at
from splatting.gaussians import Gaussians, from_points, rotations
from splatting.projection import ALPHA_MIN, covariances2d, in_camera, project
from splatting.render import Renderer


def test_rotations_are_scipys():
    quaternions = torch.randn(50, 4, dtype=torch.float64)
    expected = Rotation.from_quat(quaternions[:, [1, 2, 3, 0]].numpy()).as_matrix()
    assert np.allclose(rotations(quaternions).numpy(), expected, atol=1e-12)


def test_harmonics_are_scipys():
    """Real ones from the complex: sqrt(2) (-1)^m Re or Im, and the sign that 3DGS gives them."""
    directions = torch.nn.functional.normalize(torch.randn(40, 3, dtype=torch.float64), dim=1)
    x, y, z = directions.T.numpy()
    theta, phi = np.arccos(z), np.arctan2(y, x)
    found = sh.basis(3, directions).numpy()
    for degree in range(4):
        for m in range(-degree, degree + 1):
            value = sph_harm_y(degree, abs(m), theta, phi)  # with Condon-Shortley's (-1)^m
            real = value.real if m >= 0 else value.imag
            expected = real * (math.sqrt(2) if m else 1)
            assert np.allclose(found[:, degree * (degree + 1) + m], expected, atol=1e-9)


def test_colour_of_degree_zero():
    rgb = torch.rand(5, 3)
    coefficients = torch.cat([sh.from_rgb(rgb)[:, None], torch.zeros(5, 15, 3)], 1)
    directions = torch.nn.functional.normalize(torch.randn(5, 3), dim=1)
    for degree in range(4):
        assert torch.allclose(sh.colours(degree, coefficients, directions), rgb, atol=1e-6)
    assert sh.colours(0, -coefficients.abs() * 100, directions).min() == 0


def test_ewa_is_the_jacobian_of_the_projection(make_gaussians, camera):
    gaussians, camera = make_gaussians(20, dtype=torch.float64), camera.to(torch.float64)
    near, half = in_camera(gaussians.means, camera), gaussians.half_covariances()
    found = covariances2d(half, near, camera, pixel_variance=0.3)

    def picture(point):
        x, y, z = camera.rotation @ point + camera.world_to_camera[:3, 3]
        return torch.stack([camera.fx * x / z + camera.cx, camera.fy * y / z + camera.cy])

    for i in range(20):
        jacobian = torch.func.jacrev(picture)(gaussians.means[i].detach())  # (2, 3)
        covariance = jacobian @ half[i] @ half[i].T @ jacobian.T + 0.3 * torch.eye(
            2, dtype=torch.float64
        )
        expected = covariance[[0, 0, 1], [0, 1, 1]]
        assert torch.allclose(found[i], expected, rtol=1e-9)


def test_far_out_the_jacobian_is_held_back(camera):
    """A ball beside the picture's edge at grazing angle must not become a streak across it."""
    side = torch.tensor([[30.0, 0.0, 1.0], [3.0, 0.0, 1.0]])
    half = 0.1 * torch.eye(3).repeat(2, 1, 1)
    level = replace(camera, world_to_camera=torch.eye(4))
    first, second = covariances2d(half, side, level)
    assert torch.allclose(first, second)


def test_gradcheck_of_the_projection(make_gaussians, camera):
    camera = camera.to(torch.float64)
    start = make_gaussians(4, seed=2, dtype=torch.float64)
    names = list(start.tensors())

    def parts(*tensors):
        gaussians = Gaussians(**dict(zip(names, tensors, strict=True)))
        for name, tensor in zip(names, tensors, strict=True):
            del gaussians._parameters[name]
            setattr(gaussians, name, tensor)
        seen = project(gaussians, camera)
        return seen.means2d, seen.conics, seen.opacities, seen.colours

    inputs = [tensor.clone().requires_grad_() for tensor in start.tensors().values()]
    assert torch.autograd.gradcheck(parts, inputs)


def test_what_cannot_be_seen_is_culled(make_gaussians, camera):
    gaussians = make_gaussians(30)
    seen = project(gaussians, camera)
    assert len(seen.index) > 10
    away = camera.position + 2 * (camera.position - gaussians.means.detach())
    gaussians.means.data[10:] = away[10:]  # behind the camera
    gaussians.opacity_logits.data[:3] = -20  # transparent
    seen = project(gaussians, camera)
    assert set(seen.index.tolist()) <= set(range(3, 10))
    whole = Renderer()(gaussians, camera, torch.ones(3)).image
    kept = Gaussians(**{k: v[3:10] for k, v in gaussians.tensors().items()})
    alone = Renderer()(kept, camera, torch.ones(3)).image
    assert torch.allclose(whole, alone, atol=1e-6)


@pytest.mark.parametrize("backend", ["reference", "tiles"])
def test_all_behind_the_camera_is_the_background(make_gaussians, camera, backend):
    gaussians = make_gaussians(5)
    gaussians.means.data += 100 * (camera.position - gaussians.means.data)
    background = torch.tensor([0.25, 0.5, 0.75])
    rendering = Renderer(backend=backend)(gaussians, camera, background)
    assert torch.equal(rendering.image, background.expand(28, 40, 3))
    rendering.image.sum().backward()
    assert gaussians.means.grad.abs().sum() == 0


def test_culling_loses_no_pixel(make_gaussians, camera):
    """A Gaussian is dropped only where it would have been below ALPHA_MIN in every pixel."""
    gaussians = make_gaussians(300, seed=4)
    gaussians.means.data *= 3
    near = in_camera(gaussians.means, camera).detach()
    index = (near[:, 2] > 0.05).nonzero().squeeze(1)
    dropped = sorted(set(index.tolist()) - set(project(gaussians, camera).index.tolist()))
    assert len(dropped) > 20
    near, half = near[dropped], gaussians.half_covariances()[dropped].detach()
    a, b, c = covariances2d(half, near, camera).unbind(1)
    d = camera.pixel_centres()[:, None] - (
        near[:, :2] / near[:, 2:] * torch.tensor([44.0, 46.0]) + torch.tensor([21.0, 13.0])
    )
    form = (c * d[..., 0] ** 2 - 2 * b * d[..., 0] * d[..., 1] + a * d[..., 1] ** 2) / (
        a * c - b * b
    )
    assert (gaussians.opacities()[dropped] * (-form / 2).exp()).max() < ALPHA_MIN


def test_depth_sorting(make_gaussians, camera):
    seen = project(make_gaussians(40), camera)
    order = seen.order()
    assert (seen.depths[order].diff() >= 0).all()
    assert torch.equal(seen.order(by_depth=False), torch.arange(len(order)))


def test_look_at_and_rays(camera):
    target = torch.tensor([0.4, -0.2, 0.3])
    camera = replace(
        camera, world_to_camera=look_at(camera.position, target, torch.tensor([0.0, 0, 1]))
    )
    x, y, z = in_camera(target[None], camera)[0]
    assert abs(x) < 1e-5
    assert abs(y) < 1e-5
    assert z > 0
    above = in_camera((target + torch.tensor([0, 0, 0.1]))[None], camera)[0]
    assert above[1] < 0, "y points down"
    pixels = torch.tensor([[3.0, 20.0], [35.5, 1.0]])
    points = camera.position + 2.5 * camera.rays(pixels)
    near = in_camera(points, camera)
    assert torch.allclose(near[:, 2], torch.full((2,), 2.5), atol=1e-5)
    back = near[:, :2] / near[:, 2:] * torch.tensor([44.0, 46.0]) + torch.tensor([21.0, 13.0])
    assert torch.allclose(back, pixels, atol=1e-4)


def test_depth_of_one_opaque_ball(camera):
    ball = from_points(torch.zeros(4, 3) + 1e-3 * torch.eye(4, 3), torch.rand(4, 3), opacity=0.98)
    ball.log_scales.data.fill_(math.log(0.5))
    depth, alpha = Renderer().depth_and_alpha(ball, camera)
    middle = float(in_camera(torch.zeros(1, 3), camera)[0, 2])
    assert depth[13, 21] == pytest.approx(middle, rel=1e-3)
    assert alpha[13, 21] == pytest.approx(1, abs=1e-4)
    assert alpha[0, 0] == 0


def test_isotropic_ones_are_balls(make_gaussians):
    gaussians = make_gaussians(10)
    gaussians.isotropic = True
    half = gaussians.half_covariances()
    covariance = half @ half.mT
    variance = gaussians.log_scales.mean(1).exp().square()
    assert torch.allclose(covariance, variance[:, None, None] * torch.eye(3), atol=1e-5)
