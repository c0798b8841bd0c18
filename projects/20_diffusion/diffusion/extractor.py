"""Two small classifiers that judge images; each trained once per data set, and kept.

The *extractor* gives the features of the Frechet distance. The *judge*, another architecture from
another seed, says which label a sample shows; the distance never sees it, so a model cannot please
both by the same accident. Those of MNIST come with the package (`classifiers/`, 0.4 MB): the same
bits on every machine, so that distances can be compared, and a first run that need not train them.
Others are trained when they are first asked for. In the data folder:

    diffusion/extractor-digits-1.safetensors   weights, moments of the training images, hash
    diffusion/.extractor-digits-1.lock         held (flock) by the one process that trains it
"""

import fcntl
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion.frechet import Moments, frechet_distance, mean_and_covariance
from trainloop import (
    Batches,
    Ema,
    LabError,
    atomic_write,
    check,
    data_dir,
    load_images,
    progress_bar,
    warmup_cosine,
)

SHIPPED = Path(__file__).with_name("classifiers")
# Of all below that decides the weights. Raise it with every change: old files are then left alone.
RECIPE = "1"
EPOCHS = {"digits": 30, "mnist": 5, "fashion-mnist": 5, "cifar10": 5}
MIRRORED = ("fashion-mnist", "cifar10")  # a mirrored shoe is a shoe, a mirrored 2 is no digit
SEEDS = {"extractor": 0, "judge": 1}
BATCH, LR, DECAY, DROPOUT, SHIFT, EMA = 128, 5e-3, 0.05, 0.2, 1, 0.99  # as projects/70_mnist's
VARIANCE = 1000.0  # trace of the training images' covariance, after scaling


@dataclass(frozen=True)
class Classifier:
    """A trained classifier on a device, and what to print beside its figures."""

    role: str  # extractor or judge
    data: str  # what it was trained on
    net: nn.Sequential  # body: images in [-1, 1] -> features (B, D); head: -> logits (B, classes)
    accuracy: float  # share of the test images, 0..1
    sha256: str  # of weights, moments and what the file says about them
    shape: tuple[int, int, int]  # C, H, W of its images

    def __str__(self) -> str:
        return f"{self.role} {self.sha256[:8]} ({self.accuracy:.2%} of {self.data}'s test images)"

    def log_probabilities(self, images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N classes"]:
        """log p(label) of images in [-1, 1], on the CPU."""
        return self._through(self.net, images).log_softmax(1)

    @torch.no_grad()
    def _through(
        self, layers: nn.Module, images: Float[Tensor, "N C H W"], batch: int = 500
    ) -> Float[Tensor, "N D"]:
        """What `layers` make of the images, clamped to [-1, 1] as they would be in a file.

        Raises:
            ValueError: the images are of another size than those it was trained on.
        """
        if tuple(images.shape[1:]) != self.shape:
            raise ValueError(f"{self} reads images of {self.shape}, not {tuple(images.shape[1:])}")
        device = next(self.net.parameters()).device
        parts = [layers(part.to(device).clamp(-1, 1)).cpu() for part in images.split(batch)]
        return torch.cat(parts) if parts else layers(images.to(device)).cpu()


@dataclass(frozen=True)
class Extractor(Classifier):
    """The classifier whose features the Frechet distance compares.

    The features of a net with ReLUs have no unit of their own: halve a layer's weights and double
    the next one's, and it computes the same. So they are scaled by one factor such that the
    variances of the training images' features add up to 1,000. A distance is then in thousandths
    of that: images that are all the same have at least 1,000.
    """

    moments: Moments  # of the features of all training images
    scale: float

    def features(self, images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D"]:
        """The scaled penultimate features, at least 0, of images in [-1, 1]; on the CPU."""
        return self.scale * self._through(self.net.body, images)

    def distance(self, images: Float[Tensor, "N C H W"]) -> float:
        """Frechet distance between these images and all training images.

        Raises:
            LabError: fewer than two images, or NaN among them.
        """
        return frechet_distance(self.features(images), self.moments)


def reference_distance(extractor: Extractor, samples: int | None = None, seed: int = 0) -> float:
    """The distance of real images that the extractor was not trained on: what perfection gets.

    Args:
        samples: how many test images, drawn by the seed; as many as the figure beside it is of,
            since the distance falls with their number. All if left out, or if there are fewer.
    """
    images, _ = load_images(extractor.data, "test")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return extractor.distance(to_unit(images[order[:samples]]))


def to_unit(images: UInt8[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
    """0..255 to [-1, 1]."""
    return images / 127.5 - 1


# --- the nets ------------------------------------------------------------------------------------


def build_extractor(
    shape: tuple[int, int, int], classes: int = 10, width: int = 8
) -> nn.Sequential:
    """Five convolutions and global max pooling: 4 * width = 32 features, 18 thousand parameters.

    Max pooling asks whether a stroke is anywhere, and makes the features indifferent to where it
    stands. With stride 1 at first where images have fewer than 16 pixels a side.
    """
    (channels, height, _), w = shape, width
    body = nn.Sequential(
        BlackIsZero(),
        conv(channels, w, kernel=5, stride=2 if height >= 16 else 1, padding=2),  # (B, w, 14, 14)
        conv(w, 2 * w),
        conv(2 * w, 2 * w),
        nn.MaxPool2d(2),  # (B, 2w, 7, 7)
        conv(2 * w, 4 * w),
        conv(4 * w, 4 * w, padding=0),  # (B, 4w, 5, 5)
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),  # (B, 4w)
    )
    return assemble(body, nn.Linear(4 * w, classes))


def build_judge(shape: tuple[int, int, int], classes: int = 10, width: int = 8) -> nn.Sequential:
    """After LeNet-5 (LeCun 1998): large kernels, average pooling, a dense layer that knows places.

    In all of these the extractor is different. 5x5 kernels without padding; where images have fewer
    than 16 pixels a side, 3x3 with padding.
    """
    (channels, height, columns), w = shape, width
    kernel, padding = (5, 0) if height >= 16 else (3, 1)
    shrink = kernel - 1 - 2 * padding
    rows, columns = ((((side - shrink) // 2) - shrink) // 2 for side in (height, columns))
    body = nn.Sequential(
        BlackIsZero(),
        conv(channels, w, kernel, padding=padding),  # (B, w, 24, 24)
        nn.AvgPool2d(2),  # (B, w, 12, 12)
        conv(w, 4 * w, kernel, padding=padding),  # (B, 4w, 8, 8)
        nn.AvgPool2d(2),  # (B, 4w, 4, 4)
        nn.Flatten(),  # (B, 64w)
        nn.Linear(4 * w * rows * columns, 128, bias=False),
        nn.BatchNorm1d(128),
        nn.ReLU(inplace=True),
    )
    return assemble(body, nn.Linear(128, classes))


BUILD = {"extractor": build_extractor, "judge": build_judge}


def assemble(body: nn.Sequential, head: nn.Linear) -> nn.Sequential:
    """A net with the parts `body` and `head`; in channels_last, which is quicker on a CPU."""
    net = nn.Sequential()
    net.add_module("body", body)
    net.add_module("dropout", nn.Dropout(DROPOUT))
    net.add_module("head", head)
    return net.to(memory_format=torch.channels_last)


class BlackIsZero(nn.Module):
    """From [-1, 1] to [0, 2]: the convolutions' padding is then black, not grey."""

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return images + 1


def conv(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, padding: int = 1
) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU; BatchNorm brings the bias."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


# --- training ------------------------------------------------------------------------------------


def fit(role: str, data: str) -> nn.Sequential:
    """Train a classifier on all training images: AdamW, one cycle, small shifts, averaged weights.

    Always on the CPU with one thread, whatever the process uses otherwise: so the bits depend on
    torch's version and the processor's instruction set, but not on the number of cores. The
    process's random numbers stay as they are.
    """
    images, labels = load_images(data, "train")
    with torch.random.fork_rng(devices=()), one_thread():
        torch.manual_seed(SEEDS[role])
        net = BUILD[role](tuple(images.shape[1:]))
        matrices = [p for p in net.parameters() if p.ndim > 1]
        vectors = [p for p in net.parameters() if p.ndim == 1]
        groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors}]
        optimizer = torch.optim.AdamW(groups, LR, weight_decay=0.0, fused=True)
        ema = Ema(net, EMA)
        batches = Batches(len(images), BATCH, SEEDS[role])
        steps = EPOCHS[data] * len(images) // BATCH
        with progress_bar(steps, "step", f"{role} of {data}, once") as bar:
            for step in range(1, steps + 1):
                for group in optimizer.param_groups:
                    group["lr"] = LR * warmup_cosine(step, steps, warmup=0.2, final=0.0)
                picked = batches.at(step)
                shown = to_unit(augment(images[picked], data in MIRRORED))
                loss = F.cross_entropy(net(shown), labels[picked])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                ema.update()
                bar.update()
    return ema.model.requires_grad_(False)


def augment(images: UInt8[Tensor, "B C H W"], mirror: bool) -> UInt8[Tensor, "B C H W"]:
    """Each image moved by up to SHIFT pixels each way, black coming in; half of them mirrored."""
    count, _, height, width = images.shape
    padded = F.pad(images, (SHIFT,) * 4)  # (B, C, H + 2, W + 2)
    down, right = torch.randint(0, 2 * SHIFT + 1, (2, count, 1))
    rows, columns = down + torch.arange(height), right + torch.arange(width)  # (B, H), (B, W)
    if mirror:
        flipped = torch.rand(count, 1) < 0.5
        columns = torch.where(flipped, columns.flip(1), columns)
    which = torch.arange(count)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]]  # (B, H, W, C)
    return moved.permute(0, 3, 1, 2)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# --- keeping -------------------------------------------------------------------------------------


def load_or_train(data: str, device: torch.device | str = "cpu") -> Extractor:
    """The extractor of a data set: digits, mnist, fashion-mnist or cifar10.

    A file that is damaged, or not what its name says, is named on stderr and made anew.

    Raises:
        LabError: the data set has no labels or cannot be had, or the data folder not be written.
    """
    return _kept("extractor", data, device)


def load_or_train_judge(data: str, device: torch.device | str = "cpu") -> Classifier:
    """The judge of a data set; else as `load_or_train`."""
    return _kept("judge", data, device)


def _kept(role: str, data: str, device: torch.device | str) -> Classifier:
    """The shipped one, or that of the data folder; else train it, while others who want it wait."""
    known = ", ".join(EPOCHS)
    check(data in EPOCHS, f"no {role} for {data!r}: it needs labels, as {known} have them")
    name = f"{role}-{data}-{RECIPE}.safetensors"
    try:
        return _read(role, data, SHIPPED / name, device)
    except FileNotFoundError:
        pass
    except ValueError as error:
        print(f"{SHIPPED / name} {error}: left out", file=sys.stderr, flush=True)
    path = data_dir() / "diffusion" / name
    try:
        return _read(role, data, path, device)
    except (FileNotFoundError, ValueError):
        with _locked(path):
            try:
                return _read(role, data, path, device)  # another process made it meanwhile
            except FileNotFoundError:
                pass
            except ValueError as error:
                print(f"{path} {error}: training it anew", file=sys.stderr, flush=True)
            _make(role, data, path)
    return _read(role, data, path, device)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file's lock, waiting if need be. The system frees it when its holder dies."""
    lock = path.with_name(f".{path.stem}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except OSError as error:
        hint = "point LAB_DATA to a folder you can write to"
        raise LabError(f"cannot write to {lock.parent} ({error.strerror}); {hint}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{path.stem}: waiting for another process to train it", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(role: str, data: str, path: Path) -> None:
    """Train the classifier, score it on the test images, and write it to `path` at once or not."""
    net = fit(role, data)
    images, labels = load_images(data, "test")
    shape = tuple(images.shape[1:])
    fresh = Classifier(role, data, net, 0.0, "", shape)
    found = fresh.log_probabilities(to_unit(images)).argmax(1)
    about = {
        "format": "pt",
        "role": role,
        "data": data,
        "recipe": RECIPE,
        "shape": ",".join(map(str, shape)),
        "accuracy": repr((found == labels).double().mean().item()),
        "torch": torch.__version__,
    }
    tensors = {name: value.contiguous() for name, value in net.state_dict().items()}
    if role == "extractor":
        images, _ = load_images(data, "train")
        features = torch.cat(
            [fresh._through(net.body, to_unit(part)) for part in images.split(5000)]
        )
        scale = (VARIANCE / mean_and_covariance(features).covariance.trace().item()) ** 0.5
        moments = mean_and_covariance(scale * features)
        about |= {"scale": repr(scale), "images": str(moments.count)}
        tensors |= {"moments.mean": moments.mean, "moments.covariance": moments.covariance}
    about["sha256"] = content_sha256(tensors, about)
    content = safetensors.torch.save(tensors, about)
    atomic_write(path, lambda file: file.write(content))


def _read(role: str, data: str, path: Path, device: torch.device | str) -> Classifier:
    """The classifier in a file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged or another one; the message goes on from the file's name.
    """
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"is damaged or no safetensors file ({error})") from None
    told = tuple(about.get(name) for name in ("role", "data", "recipe"))
    if told != (role, data, RECIPE):
        raise ValueError(f"is not the {role} of {data} by recipe {RECIPE}, it says {told}")
    sha256 = about.pop("sha256", "")
    if sha256 != content_sha256(tensors, about):
        raise ValueError("is not what was written: its sha256 is another")
    channels, height, width = map(int, about["shape"].split(","))
    shape = (channels, height, width)
    mean, covariance = (tensors.pop(f"moments.{name}", None) for name in ("mean", "covariance"))
    with torch.random.fork_rng(devices=()):  # the weights that are drawn here are not kept
        net = BUILD[role](shape).eval().requires_grad_(False)
    net.load_state_dict(tensors)
    common = (role, data, net.to(device), float(about["accuracy"]), sha256, shape)
    if role == "judge":
        return Classifier(*common)
    return Extractor(
        *common, Moments(mean, covariance, int(about["images"])), float(about["scale"])
    )


def content_sha256(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    """Of names, types, shapes, bytes, and of what the file says about them.

    Not of the file, whose header lists `about` in an order that changes from write to write.
    """
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()
