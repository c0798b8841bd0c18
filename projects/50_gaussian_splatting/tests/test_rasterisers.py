"""The two rasterisers: the slow one against a loop, the fast one against the slow one."""

import math

import numpy as np
import pytest
import torch

from splatting import reference, tiles
from splatting.projection import ALPHA_MAX, ALPHA_MIN
from splatting.render import Renderer

BLACK = torch.zeros(3)


def splats(count, width, height, seed=0, dtype=torch.float32, size=0.12, opaque=False):
    """means2d, conics, colours, opacities, order: turned, elongated, some outside the picture."""
    rng = np.random.default_rng(seed)
    means = rng.uniform(-0.15, 1.15, (count, 2)) * (width, height)
    half = rng.normal(size=(count, 2, 2)) * size * max(width, height)
    half[: count // 4, :, 1] *= 0.05  # needles
    covariance = half @ half.swapaxes(1, 2) + 0.3 * np.eye(2)
    inverse = np.linalg.inv(covariance)
    conics = inverse[:, [0, 0, 1], [0, 1, 1]]
    opacities = rng.uniform(0.9, 1, count) if opaque else rng.uniform(0.001, 1, count)
    arrays = (means, conics, rng.uniform(size=(count, 3)), opacities)
    tensors = [torch.tensor(a, dtype=dtype, requires_grad=True) for a in arrays]
    return tensors, torch.from_numpy(rng.permutation(count))


def image_and_gradients(blend, tensors, order, background, width, height):
    background = background.clone().requires_grad_()
    image = blend(*tensors, order, background, width, height)
    weights = torch.rand(image.shape, generator=torch.Generator().manual_seed(3)) - 0.3
    loss = (image * weights.to(image.dtype)).sum()
    return image.detach(), torch.autograd.grad(loss, [*tensors, background])


def test_reference_is_the_formula_pixel_by_pixel():
    (means, conics, colours, opacities), order = splats(12, 9, 7, dtype=torch.float64)
    background = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    image = reference.blend(means, conics, colours, opacities, order, background, 9, 7)
    for row in range(7):
        for column in range(9):
            light, total = 1.0, torch.zeros(3, dtype=torch.float64)
            for i in order.tolist():
                x, y = column + 0.5 - means[i, 0].item(), row + 0.5 - means[i, 1].item()
                a, b, c = conics[i].tolist()
                power = -0.5 * (a * x * x + 2 * b * x * y + c * y * y)
                alpha = min(ALPHA_MAX, opacities[i].item() * math.exp(power))
                if alpha >= ALPHA_MIN:
                    total += alpha * light * colours[i].detach()
                    light *= 1 - alpha
            assert torch.allclose(image[row, column], total + light * background, atol=1e-12)


def test_gradcheck_of_the_reference():
    """Wide and faint enough that no alpha is near a cut in any of the pixels."""
    rng = np.random.default_rng(5)
    half = rng.normal(size=(5, 2, 2)) + 4 * np.eye(2)
    conics = np.linalg.inv(half @ half.swapaxes(1, 2))[:, [0, 0, 1], [0, 1, 1]]
    arrays = (rng.uniform(1, 5, (5, 2)), conics, rng.uniform(size=(5, 3)), rng.uniform(0.3, 0.8, 5))
    inputs = [torch.tensor(a, requires_grad=True) for a in arrays]
    background = torch.tensor([0.2, 0.4, 0.6], dtype=torch.float64, requires_grad=True)
    order = torch.tensor([2, 0, 4, 1, 3])
    assert torch.autograd.gradcheck(
        lambda *t: reference.blend(*t[:4], order, t[4], 6, 6), (*inputs, background)
    )


@pytest.mark.parametrize(
    ("count", "width", "height", "options"),
    [
        (60, 40, 28, {}),
        (400, 33, 17, {"size": 0.05}),
        (150, 24, 24, {"opaque": True, "size": 0.5}),  # whole tiles become opaque
        (3, 5, 3, {}),
        (1, 64, 8, {"size": 0.01}),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_tiles_equal_the_reference(count, width, height, options, seed):
    """The reference in float64: its own float32 gradients are off by 1e-4 where much is opaque."""
    tensors, order = splats(count, width, height, seed, **options)
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    background = torch.tensor([0.2, 0.5, 0.3])
    image, gradients = image_and_gradients(tiles.blend, tensors, order, background, width, height)
    expected, wanted = image_and_gradients(
        reference.blend, exact, order, background.double(), width, height
    )
    assert torch.allclose(image.double(), expected, atol=1e-5)
    for found, want in zip(gradients, wanted, strict=True):
        scale = max(1, float(want.abs().max()))
        assert torch.allclose(found.double(), want, atol=1e-5 * scale)
        assert want.abs().max() > 0


def test_both_give_the_same_gradients_of_3d_parameters(make_gaussians, camera):
    background, found = torch.tensor([0.3, 0.2, 0.6]), {}
    for backend in ("reference", "tiles"):
        gaussians = make_gaussians(200)
        rendering = Renderer(backend=backend)(gaussians, camera, background)
        weights = torch.rand(rendering.image.shape, generator=torch.Generator().manual_seed(0))
        (rendering.image * weights).mean().backward()
        gradients = {name: p.grad for name, p in gaussians.named_parameters()}
        found[backend] = {"image": rendering.image, "pull": rendering.pull(), **gradients}
    for name, expected in found["reference"].items():
        scale = max(1, float(expected.abs().max()))
        assert torch.allclose(found["tiles"][name], expected, atol=1e-5 * scale), name
        assert expected.abs().max() > 0, name


def test_the_gradient_does_not_depend_on_the_number_of_threads():
    tensors, order = splats(300, 64, 64, size=0.05)
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(image_and_gradients(tiles.blend, tensors, order, BLACK, 64, 64))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0][0], found[1][0])
    assert all(map(torch.equal, found[0][1], found[1][1]))


def test_exponential():
    x = np.linspace(-6, 0, 5001).astype(np.float32)
    found = np.array([tiles.exponential(v) for v in x])
    assert np.abs(found / np.exp(x.astype(np.float64)) - 1).max() < 3e-6
    assert tiles.exponential(np.float32(-1e30)) < ALPHA_MIN


def test_each_tile_lists_what_it_must_front_to_back_and_little_else():
    width, height = 61, 45
    (means, conics, colours, opacities), order = splats(200, width, height, size=0.08)
    table = torch.cat([means, conics, opacities[:, None], colours], 1).detach().numpy()
    across, down = -(-width // 8), -(-height // 8)
    starts, ids = tiles.bin_splats(table, order.numpy(), across, down)
    rank = np.empty(200, int)
    rank[order.numpy()] = np.arange(200)
    extra = 0
    x, y = np.meshgrid(np.arange(across * 8) + 0.5, np.arange(down * 8) + 0.5)
    for tile in range(across * down):
        listed = ids[starts[tile] : starts[tile + 1]]
        assert (np.diff(rank[listed]) > 0).all()
        rows = slice(tile // across * 8, tile // across * 8 + 8)
        columns = slice(tile % across * 8, tile % across * 8 + 8)
        dx = x[rows, columns, None] - table[:, 0]
        dy = y[rows, columns, None] - table[:, 1]
        a, b, c, opacity = table[:, 2:6].T
        alpha = opacity * np.exp(-0.5 * (a * dx * dx + 2 * b * dx * dy + c * dy * dy))
        needed = np.flatnonzero((alpha >= ALPHA_MIN).any((0, 1)))
        assert set(needed) <= set(listed)
        extra += len(set(listed) - set(needed))
    assert extra < 0.15 * len(ids), "the ellipse's span in a row of tiles is found exactly"


def test_nothing_to_draw():
    empty = (torch.zeros(0, 2), torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0))
    background = torch.tensor([0.1, 0.2, 0.3])
    for blend in (reference.blend, tiles.blend):
        image = blend(*empty, torch.zeros(0, dtype=torch.int64), background, 10, 9)
        assert torch.allclose(image, background.expand(9, 10, 3))


def test_not_finite_stays_not_finite():
    (means, conics, colours, opacities), order = splats(5, 16, 16)
    image = tiles.blend(means, conics, colours * math.nan, opacities, order, BLACK, 16, 16)
    assert image.isnan().any()


def test_order_decides_who_is_in_front():
    means, conics = torch.full((2, 2), 4.0), torch.tensor([[0.01, 0, 0.01]]).repeat(2, 1)
    colours, opacities = torch.eye(3)[:2], torch.tensor([0.9, 0.9])
    for blend in (reference.blend, tiles.blend):
        for order in ([0, 1], [1, 0]):
            image = blend(means, conics, colours, opacities, torch.tensor(order), BLACK, 8, 8)
            assert image[4, 4].argmax() == order[0]
