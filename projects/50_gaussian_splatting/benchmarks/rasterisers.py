# /// script
# requires-python = "==3.12.*"
# dependencies = [
#     "splatting",
#     "torch<2.8",
#     "trainloop",
# ]
# [tool.uv.sources]
# splatting = { path = "..", editable = true }
# trainloop = { path = "../../../shared", editable = true }
# ///
"""How long does one forward and backward pass take? Three rasterisers on the same 2-D Gaussians.

    uv run --script projects/50_gaussian_splatting/benchmarks/rasterisers.py

- tiles: this project's compiled kernels.
- torch tiles: the same binning (the compiled one, in its favour) into tiles of 16x16, then plain
  torch for each tile: what one writes without a compiler.
- reference: plain torch, every Gaussian against every pixel.

Each contestant gives image and gradients by centres, conics, colours and opacities, and each time
it is checked that they agree: to 2e-5, but for one value in 10,000, since of a million pairs of
pixel and Gaussian some have an alpha within a rounding of the cut at 1/255. Time is CPU time of
the process on one thread (`time.process_time`), the mean of calls for a quarter of a second, and
the least of several rounds; contestants take turns within a round. At fixed
coverage: a Gaussian's area shrinks as their number grows, so that the mean number of Gaussians
over a pixel is the same. What needs more than `--memory` GB is left out.

No peer: gsplat's PyTorch path (`_rasterize_to_pixels` in `gsplat/cuda/_torch_impl.py`, read at
commit 020d8c5) asks `rasterize_to_indices_in_range` for its pairs, which is a CUDA kernel.
"""

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from splatting import reference, tiles
from splatting.projection import ALPHA_MAX, ALPHA_MIN
from trainloop import entry_point, parse
from trainloop.paths import workspace_root

COVERAGE = 12.0  # Gaussians over a pixel, by the area of two deviations
SIDE = 16  # pixels of torch's tiles
LEAST = 0.25  # CPU seconds of calls in a row: some machines count CPU time in ticks of 4 ms
AT_THE_CUT = 1e-4  # share of values that may differ


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    sizes: tuple[int, ...] = (128, 256)
    """Pixels of a side."""
    counts: tuple[int, ...] = (500, 2000, 10000)
    """Gaussians."""
    rounds: int = 5
    """Of which the least counts; the slow ones get fewer, see --seconds."""
    seconds: float = 20.0
    """A contestant whose first round took more than this gets no second one."""
    memory: float = 8.0
    """GB that the reference may need."""
    out: Path = workspace_root() / "runs/benchmarks/rasterisers"
    """Folder of the table."""


def splats(count: int, size: int) -> tuple[list[Tensor], Tensor]:
    """Turned, elongated Gaussians all over the picture; leaves, and an order."""
    generator = torch.Generator().manual_seed(count + size)
    spread = size * math.sqrt(COVERAGE / count / (4 * math.pi))
    means = size * torch.rand(count, 2, generator=generator)
    sizes = spread * (0.5 * torch.randn(count, 2, generator=generator)).exp()
    angle = math.pi * torch.rand(count, generator=generator)
    cos, sin = angle.cos(), angle.sin()
    u, v = (1 / (sizes.square() + 0.3)).unbind(1)
    conics = torch.stack(
        [cos * cos * u + sin * sin * v, cos * sin * (u - v), sin * sin * u + cos * cos * v], 1
    )
    colours = torch.rand(count, 3, generator=generator)
    opacities = torch.rand(count, generator=generator)
    leaves = [t.requires_grad_() for t in (means, conics, colours, opacities)]
    return leaves, torch.randperm(count, generator=generator)


def torch_tiles(
    means2d: Tensor, conics: Tensor, colours: Tensor, opacities: Tensor, order: Tensor,
    background: Tensor, width: int, height: int,
) -> Tensor:  # fmt: skip
    """Tiles of SIDE x SIDE in a Python loop over them, each as `reference.blend` does it."""
    table = torch.cat([means2d, conics, opacities[:, None], colours], 1)
    across, down = -(-width // 8), -(-height // 8)
    starts, ids = tiles.bin_splats(table.detach().numpy(), order.numpy(), across, down)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    step = SIDE // 8
    rows = []
    for top in range(0, down, step):
        row = []
        for left in range(0, across, step):
            small = [t * across + s for t in range(top, min(top + step, down))
                     for s in range(left, min(left + step, across))]  # fmt: skip
            found = torch.cat([torch.from_numpy(ids[starts[t] : starts[t + 1]]) for t in small])
            found = found.long().unique()
            found = found[rank[found].argsort()]
            x0, y0 = 8 * left, 8 * top
            w, h = min(SIDE, width - x0), min(SIDE, height - y0)
            y, x = torch.meshgrid(
                torch.arange(y0, y0 + h) + 0.5, torch.arange(x0, x0 + w) + 0.5, indexing="ij"
            )
            mean_x, mean_y, a, b, c, opacity = table[found, :6].T
            dx, dy = x.reshape(-1, 1) - mean_x, y.reshape(-1, 1) - mean_y
            power = -0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy
            alpha = (opacity * power.exp()).clamp(max=ALPHA_MAX)
            alpha = torch.where(alpha < ALPHA_MIN, 0, alpha)
            through = torch.cumprod(1 - alpha, 1)
            before = torch.cat([through.new_ones(len(through), 1), through], 1)
            pixels = (alpha * before[:, :-1]) @ table[found, 6:] + before[:, -1:] * background
            row.append(pixels.reshape(h, w, 3))
        rows.append(torch.cat(row, 1))
    return torch.cat(rows)


CONTESTANTS: dict[str, Callable[..., Tensor]] = {
    "tiles": tiles.blend,
    "torch tiles": torch_tiles,
    "reference": reference.blend,
}


def once(blend: Callable[..., Tensor], leaves: list[Tensor], order: Tensor, size: int) -> tuple:
    """Forward and backward: CPU seconds of each, and what came out."""
    weights = torch.rand(size, size, 3, generator=torch.Generator().manual_seed(0))
    background = torch.tensor([0.2, 0.5, 0.3])
    begin = time.process_time()
    image = blend(*leaves, order, background, size, size)
    middle = time.process_time()
    gradients = torch.autograd.grad((image * weights).mean(), leaves)
    return middle - begin, time.process_time() - middle, [image.detach(), *gradients]


def several(
    blend: Callable[..., Tensor], leaves: list[Tensor], order: Tensor, size: int,
    expected: list[Tensor],
) -> tuple[float, float]:  # fmt: skip
    """Mean CPU seconds of forward and backward, of calls for at least LEAST seconds."""
    calls: list[tuple[float, float]] = []
    while sum(map(sum, calls)) < LEAST:
        forward, backward, found = once(blend, leaves, order, size)
        calls.append((forward, backward))
    for one, other in zip(found, expected, strict=True):
        close = torch.isclose(one, other, rtol=0, atol=2e-5 * max(1, float(other.abs().max())))
        assert (~close).float().mean() <= AT_THE_CUT
    return statistics.fmean(f for f, _ in calls), statistics.fmean(b for _, b in calls)


def measure(options: Options, count: int, size: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each contestant that fits into memory."""
    leaves, order = splats(count, size)
    needed = count * size * size * 4 * 14 / 1e9  # GB: what autograd keeps of 14 such tensors
    names = [n for n in CONTESTANTS if n != "reference" or needed < options.memory]
    expected = once(tiles.blend, leaves, order, size)[2]  # compiles, too
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for turn in range(options.rounds):
        for name in names:
            if turn and sum(times[name][0]) > options.seconds:
                continue
            times[name].append(several(CONTESTANTS[name], leaves, order, size, expected))
    least = {name: min(times[name], key=sum) for name in names}
    return {
        name: {
            "forward_ms": 1000 * least[name][0],
            "backward_ms": 1000 * least[name][1],
            "ms": 1000 * sum(least[name]),
            "rounds": len(times[name]),
            "ratio": statistics.median(
                sum(t) / sum(mine) for t, mine in zip(times[name], times["tiles"], strict=False)
            ),
        }
        for name in names
    }


@entry_point
def main() -> None:
    """Measure rasterisers on one thread, CPU time."""
    options = parse(Options, main.__doc__)
    torch.set_num_threads(1)
    lines = ["| pixels | Gaussians | contestant | forward, ms | backward, ms | both | times ours | "
             "rounds |", "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    found = []
    for size in options.sizes:
        for count in options.counts:
            for name, m in measure(options, count, size).items():
                lines.append(
                    f"| {size}x{size} | {count:,} | {name} | {m['forward_ms']:.1f} | "
                    f"{m['backward_ms']:.1f} | {m['ms']:.1f} | {m['ratio']:.1f} | {m['rounds']} |"
                )
                found.append({"size": size, "count": count, "name": name, **m})
                print(lines[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "rasterisers.md").write_text("\n".join(lines) + "\n")
    about = {"torch": torch.__version__, "machine": platform.machine(), "cores": os.cpu_count()}
    (options.out / "rasterisers.json").write_text(json.dumps({**about, "results": found}, indent=1))
    print(f"\n{options.out / 'rasterisers.md'}")


if __name__ == "__main__":
    main()
