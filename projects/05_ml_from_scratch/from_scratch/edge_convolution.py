"""Convolution three ways, and the edges it finds: Sobel, Laplacian, Gaussian, Canny.

Convolution      out[i, j] = Σ_uv  kernel[u, v] · image[i − u, j − v]
Correlation      out[i, j] = Σ_uv  kernel[u, v] · image[i + u, j + v]
    The one is the other with the kernel turned by 180°. Deep learning's "convolution" is the
    correlation; the true one commutes and associates, so a blur and a derivative can be merged.
Theorem          F(image * kernel) = F(image) · F(kernel): two FFTs, whatever the kernel's size.
    The DFT is periodic; zeros up to (H + h − 1, W + w − 1) keep the ends from meeting.
Separable        a kernel that is column · row costs h + w products a pixel instead of h · w.
Modes            full: wherever they overlap, (H + h − 1, W + w − 1); same: its middle (H, W);
                 valid: where the kernel lies inside, (H − h + 1, W − w + 1).
Sobel            a derivative [1, 0, −1], smoothed across by [1, 2, 1].
Canny            1 blur, 2 gradient, 3 keep only maxima along it, which thins the edges to a pixel,
                 4 hysteresis: weak maxima stay where they hang together with a strong one.

Sources: Gonzalez, Woods, "Digital Image Processing", 4th ed. 2018, secs. 3.4, 4.6, 10.2;
Canny, "A Computational Approach to Edge Detection", IEEE PAMI 8(6), 1986.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.figure import Figure
from numpy.lib.stride_tricks import sliding_window_view

from trainloop import check

Mode = Literal["valid", "same", "full"]

# Kernels of the true convolution: turned by 180°, so that brighter to the right is positive.
SOBEL_X = np.array([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
SOBEL_Y = SOBEL_X.T  # positive where it gets brighter downwards
LAPLACIAN = np.array([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])


@dataclass(frozen=True, kw_only=True)
class Config:
    """Convolve two photographs in three ways, time these, and draw the edges."""

    seed: int = 0
    """Draws the kernels that the three ways are compared and timed with."""
    sigma: float = 1.5
    """Standard deviation of the blur, pixels."""
    low: float = 0.08
    """Canny's weak edges: gradient of at least this share of the photo's greatest."""
    high: float = 0.2
    """Canny's strong edges; weak ones stay only in a piece that holds a strong one."""

    def __post_init__(self) -> None:
        check(self.seed >= 0, f"--seed must not be negative, not {self.seed}")
        check(0 < self.sigma <= 20, f"--sigma must be in (0, 20] pixels, not {self.sigma}")
        order = f"not {self.low} and {self.high}"
        check(
            0 < self.low <= self.high <= 1, f"--low and --high need 0 < low <= high <= 1, {order}"
        )


# --- convolution ---------------------------------------------------------------------------------


def pad_for(
    image: Float[np.ndarray, "H W *C"], kernel: Float[np.ndarray, "h w"], mode: Mode
) -> Float[np.ndarray, "H2 W2 *C"]:
    """The image in so many zeros that its "valid" convolution has the size of `mode`.

    For "same" an even kernel has no middle; as in scipy the extra zero goes before the image.

    Raises:
        LabError: NaN in the image or kernel, an empty one, or "valid" with no room for the kernel.
    """
    check(image.size > 0 and kernel.size > 0, "image or kernel is empty")
    check(bool(np.isfinite(image).all()), "the image holds NaN: fill those pixels first")
    check(bool(np.isfinite(kernel).all()), "the kernel holds NaN")
    sizes = f"{kernel.shape} is larger than the image, {image.shape[:2]}"
    fits = kernel.shape[0] <= image.shape[0] and kernel.shape[1] <= image.shape[1]
    check(
        mode != "valid" or fits, f'no "valid" position: the kernel, {sizes}; use "same" or "full"'
    )
    before_after = {
        "valid": [(0, 0) for _ in kernel.shape],
        "same": [(size // 2, (size - 1) // 2) for size in kernel.shape],
        "full": [(size - 1, size - 1) for size in kernel.shape],
    }[mode]
    return np.pad(image, before_after + [(0, 0)] * (image.ndim - 2))


def convolve_loops(
    image: Float[np.ndarray, "H W"], kernel: Float[np.ndarray, "h w"], mode: Mode
) -> Float[np.ndarray, "H2 W2"]:
    """The definition, in four loops: what the other two are held against."""
    padded = pad_for(image, kernel, mode)
    h, w = kernel.shape
    out = np.zeros((padded.shape[0] - h + 1, padded.shape[1] - w + 1))
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for u in range(h):
                for v in range(w):
                    out[i, j] += kernel[h - 1 - u, w - 1 - v] * padded[i + u, j + v]
    return out


def convolve_windows(
    image: Float[np.ndarray, "H W *C"], kernel: Float[np.ndarray, "h w"], mode: Mode
) -> Float[np.ndarray, "H2 W2 *C"]:
    """Every window of the image times the turned kernel, each channel for itself.

    The windows are a view: each pixel appears in h · w of them without being copied.
    """
    padded = pad_for(image, kernel, mode)
    windows = sliding_window_view(padded, kernel.shape, axis=(0, 1))  # (H2, W2, *C, h, w)
    return np.einsum("...uv,uv->...", windows, kernel[::-1, ::-1])


def convolve_fft(
    image: Float[np.ndarray, "H W *C"], kernel: Float[np.ndarray, "h w"], mode: Mode
) -> Float[np.ndarray, "H2 W2 *C"]:
    """A product of spectra. Exact up to rounding relative to the image's greatest values."""
    padded = pad_for(image, kernel, mode)
    h, w = kernel.shape
    # At the size of `padded` it wraps around, but only into the h - 1 rows that "valid" cuts off.
    size = padded.shape[:2]
    spectrum = np.fft.rfft2(kernel, size).reshape(size[0], -1, *[1] * (image.ndim - 2))
    product = np.fft.rfft2(padded, axes=(0, 1)) * spectrum
    return np.fft.irfft2(product, size, axes=(0, 1))[h - 1 :, w - 1 :]


def filter_photo(
    image: Float[np.ndarray, "H W *C"], kernel: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "H W *C"]:
    """Convolution in the image's size whose border repeats; zeros would be an edge all around."""
    around = [(size // 2, (size - 1) // 2) for size in kernel.shape]
    padded = np.pad(image, around + [(0, 0)] * (image.ndim - 2), mode="edge")
    return convolve_windows(padded, kernel, "valid")


def gaussian_1d(sigma: float | int) -> Float[np.ndarray, "1 size"]:
    """exp(−x² / 2σ²) out to 3σ as a row that sums to 1."""
    reach = int(np.ceil(3 * sigma))
    row = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    return row[None] / row.sum()


def blur(image: Float[np.ndarray, "H W *C"], sigma: float | int) -> Float[np.ndarray, "H W *C"]:
    """Gaussian blur, σ in pixels: along the rows, then along the columns."""
    row = gaussian_1d(sigma)
    return filter_photo(filter_photo(image, row), row.T)


def gradient(
    image: Float[np.ndarray, "H W *C"],
) -> tuple[Float[np.ndarray, "H W *C"], Float[np.ndarray, "H W *C"]]:
    """Sobel's derivatives to the right and downwards, times 8."""
    return filter_photo(image, SOBEL_X), filter_photo(image, SOBEL_Y)


# --- Canny ---------------------------------------------------------------------------------------


def thin(gx: Float[np.ndarray, "H W"], gy: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """The gradient's length where it is a maximum among the neighbours it points at, else 0.

    Directions are rounded to 45°. Of two equal neighbours the first one stays, not both.
    """
    length = np.hypot(gx, gy)
    sector = np.rint(np.arctan2(gy, gx) / (np.pi / 4)).astype(int) % 4  # 0 →, 1 ↘, 2 ↓, 3 ↙
    padded = np.pad(length, 1)
    H, W = length.shape
    thinned = np.zeros_like(length)
    for direction, (dy, dx) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        ahead = padded[1 + dy : 1 + dy + H, 1 + dx : 1 + dx + W]
        behind = padded[1 - dy : 1 - dy + H, 1 - dx : 1 - dx + W]
        peak = (sector == direction) & (length >= ahead) & (length > behind)
        thinned[peak] = length[peak]
    return thinned


def connected_components(mask: Bool[np.ndarray, "H W"]) -> Int[np.ndarray, "H W"]:
    """Number 1, 2, ... the pieces of a mask whose pixels touch, corners included; 0 is outside.

    A flood fill with its own stack: recursion would be too deep for a long edge.
    """
    labels = np.zeros(np.add(mask.shape, 2), int)
    labels[1:-1, 1:-1] = -mask.astype(int)  # -1: to be visited; the frame of 0 stops the flood
    width = labels.shape[1]
    flat = labels.ravel().tolist()  # lists are quicker than arrays, element by element
    around = (-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1)
    found = 0
    for seed in np.flatnonzero(labels).tolist():
        if flat[seed] != -1:
            continue
        found += 1
        flat[seed] = found
        stack = [seed]
        while stack:
            here = stack.pop()
            for step in around:
                if flat[here + step] == -1:
                    flat[here + step] = found
                    stack.append(here + step)
    return np.array(flat).reshape(labels.shape)[1:-1, 1:-1]


def canny(
    gray: Float[np.ndarray, "H W"], sigma: float | int, low: float | int, high: float | int
) -> Bool[np.ndarray, "H W"]:
    """Edges one pixel wide; `low` and `high` are shares of the greatest gradient (Canny 1986)."""
    gx, gy = gradient(blur(gray, sigma))
    greatest = np.hypot(gx, gy).max()
    if greatest == 0:  # one colour
        return np.zeros(gray.shape, bool)
    thinned = thin(gx, gy) / greatest
    pieces = connected_components(thinned >= low)
    return np.isin(pieces, pieces[thinned >= high])


# --- the lesson ----------------------------------------------------------------------------------


def run(config: Config, picture: Callable[[str, Figure], None]) -> dict[str, float]:
    """Compare, time and draw. Figures:

    max_difference_to_scipy: of the three ways in the three modes, on a crop of each photo, 0..1.
    speedup: the loops' seconds over the windows', 64x64 pixels and 7x7 kernel, the best of 3.
    fft_speedup_31: the windows' seconds over the FFT's on the whole photo, 31x31 kernel.
    edge_share_china, edge_share_flower: share of the pixels that Canny calls an edge.
    """
    from scipy.signal import convolve2d
    from sklearn.datasets import load_sample_image

    rng = np.random.default_rng(config.seed)
    photos = {name: load_sample_image(f"{name}.jpg") / 255.0 for name in ("china", "flower")}
    figures = {"max_difference_to_scipy": 0.0}
    for photo in photos.values():
        crop = photo[100:131, 200:224, 1]  # (31, 24)
        for shape in ((3, 3), (4, 6), (5, 1)):
            kernel = rng.standard_normal(shape)
            for mode in ("valid", "same", "full"):
                expected = convolve2d(crop, kernel, mode)
                for convolve in (convolve_loops, convolve_windows, convolve_fft):
                    worst = np.abs(convolve(crop, kernel, mode) - expected).max()
                    figures["max_difference_to_scipy"] = max(
                        figures["max_difference_to_scipy"], float(worst)
                    )
    seconds, figures["speedup"] = time_all(photos["china"][..., 1], rng)
    figures["fft_speedup_31"] = seconds["windows"][-1] / seconds["FFT"][-1]
    print("seconds for one channel of a photo; the loops' are measured on 64x64, 7x7 and scaled")
    for row, size in enumerate(SIZES):
        times = ", ".join(f"{name} {values[row]:.3g}" for name, values in seconds.items())
        print(f"  {size:2d}x{size:<2d}  {times}")
    picture("seconds", draw_seconds(seconds))
    for name, photo in photos.items():
        gray = photo @ [0.299, 0.587, 0.114]  # luma of Rec. 601
        edges = canny(gray, config.sigma, config.low, config.high)
        figures[f"edge_share_{name}"] = float(edges.mean())
        picture(name, draw_filters(photo, gray, edges, config.sigma))
    return figures


SIZES = (3, 5, 7, 11, 15, 21, 31)


def time_all(
    gray: Float[np.ndarray, "H W"], rng: np.random.Generator
) -> tuple[dict[str, list[float]], float]:
    """Seconds of each way at SIZES (the loops on a crop, scaled up), and the windows' speedup."""
    small = gray[:64, :64]

    def best(convolve: Callable, image: np.ndarray, size: int, repeats: int) -> float:
        kernel = rng.standard_normal((size, size))
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            convolve(image, kernel, "same")
            times.append(time.perf_counter() - start)
        return min(times)

    seconds = {
        "windows": [best(convolve_windows, gray, size, 1) for size in SIZES],
        "FFT": [best(convolve_fft, gray, size, 1) for size in SIZES],
    }
    loops = best(convolve_loops, small, 7, 3)
    seconds["loops"] = [loops * gray.size / small.size * (size / 7) ** 2 for size in SIZES]
    return seconds, loops / best(convolve_windows, small, 7, 20)


def draw_seconds(seconds: dict[str, list[float]]) -> Figure:
    """Seconds against the kernel's size: loops and windows grow with its area, the FFT does not."""
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axis = figure.subplots()
    names = {"loops": "four loops (measured on 64x64, 7x7; scaled)", "FFT": "FFT"}
    for name in ("loops", "windows", "FFT"):
        axis.loglog(SIZES, seconds[name], "o-", label=names.get(name, "sliding windows"))
    axis.set_xticks(SIZES, [f"{size}x{size}" for size in SIZES])
    axis.minorticks_off()
    axis.set(xlabel="kernel", ylabel="seconds", title="One 640x427 photo, one channel, one core")
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


def draw_filters(
    photo: Float[np.ndarray, "H W 3"],
    gray: Float[np.ndarray, "H W"],
    edges: Bool[np.ndarray, "H W"],
    sigma: float | int,
) -> Figure:
    """The photo and what each filter makes of it."""
    gx, gy = gradient(photo)
    length = np.hypot(gx, gy)
    laplacian = filter_photo(blur(gray, sigma), LAPLACIAN)
    panels = {
        "photo": photo,
        f"Gaussian, sigma {2 * sigma:g} pixels": blur(photo, 2 * sigma),
        "Sobel, derivative to the right (of gray)": gradient(gray)[0],
        "Sobel, length of each channel's gradient": np.clip(
            length / np.quantile(length, 0.99), 0, 1
        ),
        f"Laplacian (of gray, sigma {sigma:g})": laplacian,
        "Canny": edges,
    }
    figure = Figure(figsize=(12, 5.8), layout="constrained")
    for axis, (title, image) in zip(figure.subplots(2, 3).flat, panels.items(), strict=True):
        signed = image.dtype == float and image.min() < 0
        most = np.quantile(np.abs(image), 0.99) if signed else 1.0
        axis.imshow(image, cmap="gray", vmin=-most if signed else 0, vmax=most)
        axis.set_title(title, fontsize=10)
        axis.axis("off")
    return figure


if __name__ == "__main__":
    from from_scratch.lesson import main

    main("edge_convolution")
