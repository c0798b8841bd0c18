"""Fit 2-D Gaussians to a photo with the rasteriser's kernels: the whole loop, top to bottom."""

import io
import json
import math
import struct

import numpy as np
import torch
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from splatting import metrics, tiles
from splatting.config import FitConfig
from splatting.figures import ERROR_SCALE, save_gif
from trainloop import LabError, Run, atomic_write, fetch, train_all, warmup_cosine

PARAMETERS = ("places", "log_sizes", "angles", "opacity_logits", "colours")
COLUMNS = (2, 2, 1, 1, 3)  # numbers a Gaussian has in each: 9 in all
FLOOR = 0.1  # px^2: added to variances, so that no Gaussian falls between pixels
BITS16 = 2  # of the 9 numbers, how many the file keeps in 16 bits: the centre; the others in 8


class Splats2d(nn.Module):
    """N Gaussians in the plane, the first in front.

    Attributes:
        places: (N, 2) centres in units of `spacing` pixels.
        log_sizes: (N, 2) logarithms of the standard deviations in those units.
        angles: (N, 1) of the first axis, in radians.
        opacity_logits: (N, 1).
        colours: (N, 3) RGB, not bound to [0, 1].
        spacing: pixels from one Gaussian to the next if they lay on a grid; with it as the unit
            one learning rate serves all parameters, whatever the picture's size.
    """

    def __init__(self, image: Float[Tensor, "H W 3"], count: int) -> None:
        """Centres where the picture changes most, with the colours found there."""
        super().__init__()
        height, width, _ = image.shape
        self.width, self.height = width, height
        self.spacing = math.sqrt(width * height / count)
        self.register_buffer("background", image.mean((0, 1)))
        change = torch.zeros(height, width)
        change[:, :-1] += image.diff(dim=1).abs().sum(2)
        change[:-1] += image.diff(dim=0).abs().sum(2)
        chance = change.flatten() + change.mean() + 1e-6  # flat parts get some, too
        chosen = torch.multinomial(chance, count)  # without replacement
        centres = torch.stack([chosen % width, chosen // width], 1) + 0.5
        self.places = nn.Parameter(centres / self.spacing)
        # Where centres are dense, Gaussians are small: the chance of a pixel is their density.
        density = chance[chosen] / chance.sum() * count  # per px
        self.log_sizes = nn.Parameter(
            (0.5 / density.sqrt() / self.spacing).log()[:, None].repeat(1, 2)
        )
        self.angles = nn.Parameter(math.pi * torch.rand(count, 1))
        self.opacity_logits = nn.Parameter(torch.zeros(count, 1))
        self.colours = nn.Parameter(image.reshape(-1, 3)[chosen].clone())

    def forward(self) -> Float[Tensor, "H W 3"]:
        """The picture."""
        variance = (self.spacing * self.log_sizes.exp()).square() + FLOOR
        u, v = (1 / variance).unbind(1)
        cos, sin = self.angles[:, 0].cos(), self.angles[:, 0].sin()
        conics = torch.stack(  # R diag(u, v) R^T
            [cos * cos * u + sin * sin * v, cos * sin * (u - v), sin * sin * u + cos * cos * v], 1
        )
        return tiles.blend(
            self.places * self.spacing, conics, self.colours, self.opacity_logits[:, 0].sigmoid(),
            torch.arange(len(conics)), self.background, self.width, self.height,
        )  # fmt: skip

    def encode(self) -> bytes:
        """A small file: 16 bits a coordinate, 8 for each other number: 11 bytes a Gaussian."""
        with torch.no_grad():
            turned = torch.remainder(self.angles, math.pi)
            shown = self.opacity_logits.clamp(-6, 6)
            parts = [self.places, self.log_sizes, turned, shown, self.colours]
            values = torch.cat(parts, 1).numpy()
        low, high = values.min(0), values.max(0)
        steps = np.array([65535] * BITS16 + [255] * (sum(COLUMNS) - BITS16))
        whole = np.round((values - low) / np.maximum(high - low, 1e-9) * steps)
        head = struct.pack("<3H", self.width, self.height, len(values))
        ranges = np.concatenate([low, high, self.background.numpy()]).astype("<f4")
        body = whole[:, :BITS16].astype("<u2").tobytes() + whole[:, BITS16:].astype("u1").tobytes()
        return head + ranges.tobytes() + body

    @classmethod
    def decode(cls, content: bytes) -> "Splats2d":
        """What `encode` wrote; the numbers are those of its grid."""
        width, height, count = struct.unpack_from("<3H", content)
        numbers = sum(COLUMNS)
        ranges = np.frombuffer(content, "<f4", 2 * numbers + 3, 6)
        low, high = ranges[:numbers], ranges[numbers : 2 * numbers]
        at = 6 + ranges.nbytes
        fine = np.frombuffer(content, "<u2", BITS16 * count, at).reshape(count, -1) / 65535
        coarse = np.frombuffer(content, "u1", offset=at + 2 * BITS16 * count)
        whole = np.concatenate([fine, coarse.reshape(count, -1) / 255], 1)
        values = torch.from_numpy((low + whole * np.maximum(high - low, 1e-9)).astype(np.float32))
        splats = cls(torch.zeros(height, width, 3), count)
        splats.background.copy_(torch.from_numpy(ranges[2 * numbers :].copy()))
        for name, part in zip(PARAMETERS, values.split(COLUMNS, 1), strict=True):
            getattr(splats, name).data = part.contiguous()
        return splats


def photo(name: str, size: int) -> UInt8[np.ndarray, "S S 3"]:
    """The middle square of a picture, resized: flower, china, or a path.

    Raises:
        LabError: no such picture.
    """
    if name in ("flower", "china"):
        image = Image.open(fetch("photos") / f"{name}.jpg").convert("RGB")
    else:
        try:
            image = Image.open(name).convert("RGB")
        except (FileNotFoundError, IsADirectoryError):
            raise LabError(f"no picture at {name} (flower and china are always there)") from None
        except (UnidentifiedImageError, OSError) as error:
            raise LabError(f"{name} is no picture that can be read: {error}") from None
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return np.array(square.resize((size, size), Image.Resampling.LANCZOS))


def fit_image(config: FitConfig) -> dict[str, float | int | None]:
    """Fit, measure what the written file still shows, and draw both."""
    config = Run.options("splatting", config, "fit-image")
    pixels = photo(config.photo, config.size)
    truth = torch.from_numpy(pixels).float() / 255
    run = Run.open("splatting", config, "fit-image")
    frames = run.folder / "frames"
    frames.mkdir(exist_ok=True)
    # Denser at the beginning, where there is something to see.
    filmed = {1 + round((config.steps - 1) * (i / config.frames) ** 2)
              for i in range(config.frames)}  # fmt: skip

    splats = Splats2d(truth, config.gaussians)
    optimizer = torch.optim.Adam(splats.parameters(), config.lr, fused=True)
    start = run.resume(splats=splats, optimizer=optimizer)
    for step in run.steps(start):
        optimizer.param_groups[0]["lr"] = config.lr * warmup_cosine(step, run.total, final=0.01)
        image = splats()
        loss = (image - truth).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        run.log(step, loss=loss)
        if step in filmed:
            Image.fromarray(to_bytes(image)).save(frames / f"{step:06}.png")
        if run.due(step, config.eval_every):
            run.log(step, psnr=metrics.psnr(splats().detach().clamp(0, 1), truth))
            run.save(step)

    content = splats.encode()
    with torch.no_grad():
        image, decoded = splats().clamp(0, 1), Splats2d.decode(content)().clamp(0, 1)
    jpeg, jpeg_bytes = best_jpeg(pixels, len(content))
    run.log(
        run.total,
        psnr=metrics.psnr(image, truth),
        ssim=float(metrics.ssim(image, truth)),
        psnr_file=metrics.psnr(decoded, truth),
        psnr_jpeg=jpeg,
    )
    atomic_write(run.folder / "splats.bin", lambda file: file.write(content))
    run.picture("fit", draw_fit(splats, image, truth))
    if config.frames:
        found = [np.asarray(Image.open(path)) for path in sorted(frames.glob("*.png"))]
        found += [to_bytes(image)] * 10
        save_gif(run.folder / "fit.gif", [enlarged(f) for f in found])
    figures = run.finish(gaussians=config.gaussians, parameters=9 * config.gaussians,
                         bytes=len(content), jpeg_bytes=jpeg_bytes)  # fmt: skip
    if config.sweep:
        sweep(run, config, figures, pixels)
    return figures


def sweep(
    run: Run,
    config: FitConfig,
    own: dict[str, float | int | None],
    pixels: UInt8[np.ndarray, "H W 3"],
) -> None:
    """The same photo with other numbers of Gaussians: dB against bytes, a table and a picture."""
    jobs = {
        str(n): [f"--gaussians={n}", f"--photo={config.photo}", f"--size={config.size}",
                 f"--steps={config.steps}", f"--seed={config.seed}", f"--lr={config.lr}",
                 "--frames=0"]
        for n in config.sweep if n != config.gaussians
    }  # fmt: skip
    found = [(own, run.folder)]
    if jobs:
        trainings = train_all(run, jobs, command="fit-image").values()
        found += [(done.metrics, done.folder) for done in trainings]
    found.sort(key=lambda one: one[0]["gaussians"])
    rows = [metrics for metrics, _ in found]
    table = rate_table(rows)
    atomic_write(run.folder / "rate.md", lambda file: file.write(table.encode()))
    atomic_write(run.folder / "rate.json", lambda file: file.write(json.dumps(rows).encode()))
    files = [(folder / "splats.bin").read_bytes() for _, folder in found]
    run.picture("rate", draw_rate(rows, files, pixels))
    print("\n" + table)


def rate_table(rows: list[dict[str, float | int | None]]) -> str:
    """Markdown."""
    lines = [
        "| Gaussians | PSNR, dB | SSIM | bytes of the file | PSNR of the file | JPEG of at most as "
        "many bytes |",
        "|---|---|---|---|---|---|",
    ]
    for m in rows:
        jpeg = "cannot be as small"
        if m["psnr_jpeg"] is not None:
            jpeg = f"{m['psnr_jpeg']:.2f} dB, {m['jpeg_bytes']:,} bytes"
        lines.append(
            f"| {m['gaussians']:,} | {m['psnr']:.2f} | {m['ssim']:.4f} | {m['bytes']:,} | "
            f"{m['psnr_file']:.2f} | {jpeg} |"
        )
    return "\n".join(lines) + "\n"


def jpegs(pixels: UInt8[np.ndarray, "H W 3"]) -> list[tuple[float, int]]:
    """PSNR and bytes of each JPEG: all qualities, with all of the colour and with a quarter."""
    found = []
    for subsampling in ("4:4:4", "4:2:0"):
        for quality in range(1, 101):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(
                buffer, "JPEG", quality=quality, subsampling=subsampling, optimize=True
            )
            shown = np.asarray(Image.open(buffer)).astype(np.float64)
            error = np.square(shown - pixels).mean() / 255**2
            found.append((-10 * math.log10(max(error, 1e-12)), buffer.tell()))
    return found


def best_jpeg(pixels: UInt8[np.ndarray, "H W 3"], most: int) -> tuple[float | None, int]:
    """PSNR and bytes of the best JPEG of at most `most` bytes; None, 0 where none is so small."""
    return max((one for one in jpegs(pixels) if one[1] <= most), default=(None, 0))


# --- pictures ------------------------------------------------------------------------------------


def to_bytes(image: Float[Tensor, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """To 8 bits, clipped."""
    return (image.detach().clamp(0, 1) * 255 + 0.5).byte().numpy()


def enlarged(frame: UInt8[np.ndarray, "H W 3"], side: int = 256) -> UInt8[np.ndarray, "h w 3"]:
    """Each pixel as a square, such that the picture is about `side` wide."""
    k = max(1, side // frame.shape[1])
    return frame.repeat(k, 0).repeat(k, 1)


def draw_fit(splats: Splats2d, image: Tensor, truth: Tensor) -> Figure:
    """The Gaussians as outlines of one deviation, the fit, the truth, and the difference."""
    from matplotlib.collections import EllipseCollection

    figure = Figure(figsize=(12.4, 3.5), dpi=110, layout="constrained")
    axes = figure.subplots(1, 4)
    tensors = {name: getattr(splats, name).detach() for name in PARAMETERS}
    size = 2 * (splats.spacing * tensors["log_sizes"].exp()).numpy()
    shown = tensors["opacity_logits"][:, 0].sigmoid().numpy()
    tint = np.concatenate([tensors["colours"].clamp(0, 1).numpy(), shown[:, None]], 1)
    places = (tensors["places"] * splats.spacing).numpy()
    outlines = EllipseCollection(
        size[:, 0], size[:, 1], np.degrees(tensors["angles"][:, 0].numpy()), units="xy",
        offsets=places, offset_transform=axes[0].transData, facecolors="none", edgecolors=tint,
        linewidths=0.7,
    )  # fmt: skip
    axes[0].add_collection(outlines)
    axes[0].set_facecolor("black")
    axes[0].set_xlim(0, splats.width)
    axes[0].set_ylim(splats.height, 0)
    axes[0].set_aspect("equal")
    error = (ERROR_SCALE * (image - truth).abs().mean(-1)).clamp(max=1)
    axes[1].imshow(image.numpy())
    axes[2].imshow(truth.numpy())
    axes[3].imshow(error.numpy(), cmap="magma", vmin=0, vmax=1)
    titles = (f"{len(places):,} Gaussians", f"fit, {metrics.psnr(image, truth):.1f} dB", "photo",
              f"difference x {ERROR_SCALE:g}")  # fmt: skip
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
    return figure


def draw_rate(
    rows: list[dict[str, float | int | None]],
    files: list[bytes],
    pixels: UInt8[np.ndarray, "H W 3"],
) -> Figure:
    """dB against bytes, JPEG's curve beside it, and what each of the files shows."""
    figure = Figure(figsize=(3.8 + 1.7 * len(rows), 2.8), dpi=110, layout="constrained")
    axes = figure.subplots(1, 1 + len(rows), width_ratios=[1.9, *[1] * len(rows)])
    axes[0].plot([m["bytes"] for m in rows], [m["psnr_file"] for m in rows], "o-", label="splats")
    most, best = 1.3 * max(m["bytes"] for m in rows), []
    for decibels, size in sorted(jpegs(pixels), key=lambda one: one[1]):  # only what pays
        if size <= most and (not best or decibels > best[-1][1]):
            best.append((size, decibels))
    axes[0].plot(*zip(*best, strict=True), color="C1", label="JPEG")
    axes[0].set_xscale("log")
    axes[0].set_xlabel("bytes of the file")
    axes[0].set_ylabel("PSNR, dB")
    axes[0].grid(alpha=0.25, which="both")
    axes[0].legend()
    for axis, m, content in zip(axes[1:], rows, files, strict=True):
        with torch.no_grad():
            axis.imshow(to_bytes(Splats2d.decode(content)()))
        axis.set_title(f"{m['gaussians']:,}: {m['bytes']:,} bytes\n{m['psnr_file']:.1f} dB",
                       fontsize=9)  # fmt: skip
        axis.set_xticks([])
        axis.set_yticks([])
    return figure
