"""What looks at the pixels: a small residual network by hand, or one of torchvision's."""

from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from trainloop import LabError, load_checkpoint

BACKBONES = (
    "small",
    "resnet18",
    "resnet18-imagenet",
    "resnet50",
    "resnet50-imagenet",
    "mobilenet-v3",
    "mobilenet-v3-imagenet",
)
CLASSIFIER = ("fc.", "classifier.")  # torchvision's names of what comes after the features


class Backbone(nn.Module):
    """Layers in a row, cut into stages; what the last stages give is what the detector sees.

    Args:
        name: one of `BACKBONES`, without `-imagenet`.
        body: the layers.
        ends: for each stage, the number of layers up to its end; the first stage is the stem.
        channels: of the levels that are returned, finest first.
        strides: of the same levels in pixels, each twice the one before.
        mean, std: of red, green and blue, on 0..255.
    """

    def __init__(
        self,
        name: str,
        body: nn.Sequential,
        ends: tuple[int, ...],
        channels: tuple[int, ...],
        strides: tuple[int, ...],
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.name, self.body, self.ends = name, body, ends
        self.channels, self.strides = channels, strides
        # Constants, not weights: checkpoints go without them.
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.frozen_stages, self.frozen_batchnorm = 0, False

    def forward(self, images: UInt8[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Each level's features, (B, channels, H / stride, W / stride), finest first.

        H and W are multiples of the largest stride.
        """
        x = ((images.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        features = []
        for count, layer in enumerate(self.body, start=1):
            x = layer(x)
            if count in self.ends:
                features.append(x)
        return features[-len(self.strides) :]

    def freeze(self, stages: int = 0, batchnorm: bool = False) -> None:
        """Leave the first `stages` stages as they are and, if asked to, every BatchNorm.

        A frozen BatchNorm normalises by its running statistics in training too, and keeps them:
        those of a batch of two images are too noisy to learn from (Detectron, He 2017, froze all).

        Raises:
            LabError: more stages than there are.
        """
        if not 0 <= stages <= len(self.ends):
            raise LabError(
                f"--freeze {stages}: the backbone {self.name} has {len(self.ends)} stages, "
                f"give 0 to {len(self.ends)}"
            )
        self.frozen_stages, self.frozen_batchnorm = stages, batchnorm
        for module in self._frozen():
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Backbone":
        """As of any module, but what is frozen stays in evaluation mode."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def _frozen(self) -> list[nn.Module]:
        layers = (0, *self.ends)[self.frozen_stages]
        norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        return [*self.body[:layers], *(norms if self.frozen_batchnorm else [])]


class SmallBackbone(Backbone):
    """A stem and three residual stages; levels of strides 8 and 16.

    Args:
        widths: channels at strides 2, 4, 8 and 16.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (16, 32, 64, 128)) -> None:
        stem = conv(3, widths[0], stride=2)
        super().__init__(
            "small",
            nn.Sequential(stem, *(Residual(a, b) for a, b in pairwise(widths))),
            ends=(1, 2, 3, 4),
            channels=widths[2:],
            strides=(8, 16),
            mean=(110.0, 110.0, 110.0),
            std=(60.0, 60.0, 60.0),
        )
        self.widths = widths


class TorchvisionBackbone(Backbone):
    """A classifier of torchvision's without its classifier, freshly initialised; strides 8, 16, 32.

    Args:
        name: "resnet18", "resnet50" (He 2016) or "mobilenet-v3" (the large one, Howard 2019).
    """

    def __init__(self, name: str) -> None:
        from torchvision import models  # here: it is slow, and the small backbone does without

        if name == "mobilenet-v3":
            model, weights = models.mobilenet_v3_large(), models.MobileNet_V3_Large_Weights
            body, prefix = model.features, "features."
            ends, channels = (2, 4, 7, 13, 17), (40, 112, 960)
        else:
            model, weights = models.get_model(name), models.get_model_weights(name)
            layers = list(model.named_children())[:-2]  # without the pooling and the classifier
            body, prefix = nn.Sequential(OrderedDict(layers)), ""
            ends = (4, 5, 6, 7, 8)  # conv1 bn1 relu maxpool | layer1 | layer2 | layer3 | layer4
            channels = {"resnet18": (128, 256, 512), "resnet50": (512, 1024, 2048)}[name]
        super().__init__(
            name,
            body,
            ends,
            channels,
            strides=(8, 16, 32),
            mean=(123.675, 116.28, 103.53),  # ImageNet's, which the published weights expect
            std=(58.395, 57.12, 57.375),
        )
        self.prefix = prefix  # in torchvision's files, of the names of the body's weights
        self.imagenet = weights.IMAGENET1K_V1  # what torchvision's own detectors start from


def make_backbone(
    name: str,
    widths: tuple[int, int, int, int] = (16, 32, 64, 128),
    freeze: int = 0,
    freeze_batchnorm: bool = False,
) -> Backbone:
    """One of `BACKBONES`; `-imagenet` fetches torchvision's weights, once, into torch.hub's cache.

    Args:
        widths: of the small one; the others have their own.
        freeze, freeze_batchnorm: see `Backbone.freeze`.

    Raises:
        LabError: unknown name, more frozen stages than there are, weights that cannot be had.
    """
    if name not in BACKBONES:
        raise LabError(f"no backbone is called {name!r}: choose one of {', '.join(BACKBONES)}")
    kind = name.removesuffix("-imagenet")
    backbone = SmallBackbone(widths) if kind == "small" else TorchvisionBackbone(kind)
    backbone.freeze(freeze, freeze_batchnorm)
    if kind != name:
        _fit(backbone, _fetch_imagenet(backbone), backbone.imagenet.url)
    return backbone


def load_backbone_weights(backbone: Backbone, path: Path | str) -> None:
    """Give the backbone the weights of a local file.

    Args:
        path: for the small backbone a checkpoint of `pretrain`; for one of torchvision's a .pth of
            its state dict, with or without the classifier.

    Raises:
        LabError: the file is missing, damaged or of another kind, or its weights do not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise LabError(f"no file {path}: name the weights' file with --backbone-weights")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged pickle raises a dozen kinds
        raise LabError(
            f"{path} is damaged, or holds more than tensors and plain values: "
            "name another file with --backbone-weights"
        ) from None
    if not isinstance(content, dict):
        raise LabError(
            f"{path} holds no weights by name: name another file with --backbone-weights"
        )

    ours = "trainloop" in content
    if isinstance(backbone, SmallBackbone):
        if not ours:
            raise LabError(
                f"{path} is not a checkpoint of `pretrain`, and the small backbone starts from no "
                "other weights: run `pretrain`, or name the --backbone that the file belongs to"
            )
        content = _pretrained(backbone, path)
    elif ours:
        raise LabError(
            f"{path} is a checkpoint of this lab; {backbone.name} starts from torchvision's own "
            "files: name one of those, or leave out --backbone"
        )
    _fit(backbone, content, path)


def _pretrained(backbone: SmallBackbone, path: Path) -> dict[str, Tensor]:
    """The backbone's state dict in a checkpoint of `pretrain`."""
    checkpoint = load_checkpoint(path, "detection")
    command = checkpoint.get("command", "train")
    if command != "pretrain":
        raise LabError(f"{path} was written by `{command}`: name a checkpoint of `pretrain`")
    widths = tuple(checkpoint["config"]["widths"])
    if widths != backbone.widths:
        raise LabError(
            f"{path} has a backbone of widths {widths}, not {backbone.widths}: "
            f"--widths {' '.join(map(str, widths))} fits it"
        )
    return checkpoint["states"]["backbone"]


def _fetch_imagenet(backbone: TorchvisionBackbone) -> dict[str, Tensor]:
    """torchvision's state dict of weights trained on ImageNet."""
    url = backbone.imagenet.url
    try:
        return backbone.imagenet.get_state_dict(check_hash=True, weights_only=True)
    except Exception as error:  # of the net, the disk or the unpickler
        cached = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
        if cached.exists():
            raise LabError(f"{cached} is damaged: delete it, to have it fetched again") from None
        reason = str(error).split("\n")[0] or type(error).__name__
        raise LabError(
            f"{url} cannot be had ({reason}): with a copy of that file, give "
            f"--backbone {backbone.name} --backbone-weights FILE"
        ) from None


def _fit(backbone: Backbone, state: dict, source: Path | str) -> None:
    """Load a state dict of exactly this backbone's weights, or say what differs."""
    module, prefix = backbone, ""
    if isinstance(backbone, TorchvisionBackbone):
        module, prefix = backbone.body, backbone.prefix
        state = {k: v for k, v in state.items() if not str(k).startswith(CLASSIFIER)}
    # Old files lack BatchNorm's counters, which nothing here reads.
    wanted = {prefix + name: value for name, value in module.state_dict().items()}
    needed = {name for name in wanted if not name.endswith("num_batches_tracked")}
    shapes = [
        f"{name} is {_shape(state[name])}, not {_shape(wanted[name])}"
        for name in wanted
        if name in state and _shape(state[name]) != _shape(wanted[name])
    ]
    differences = {
        "missing": sorted(needed - state.keys()),
        "unknown": sorted(map(str, state.keys() - wanted.keys())),
        "of another shape": shapes,
    }
    if any(differences.values()):
        parts = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for what, names in differences.items()
            if names
        ]
        raise LabError(
            f"{source} does not fit the backbone {backbone.name}: of its weights are "
            f"{'; '.join(parts)}. Name the --backbone that it belongs to"
        )
    module.load_state_dict({k.removeprefix(prefix): v for k, v in state.items()}, strict=False)


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else "no tensor"


class Residual(nn.Module):
    """Two 3x3 convolutions around a skip, the first with stride 2 (He 2016, figure 2).

    The skip halves by averaging, then projects (He 2019, "ResNet-D"): a 1x1 convolution with stride
    2 would look at a quarter of its input. Besides, its backward pass corrupts memory in torch 2.7
    on CPUs with AVX-512 where it has fewer than 16 input channels (LEARNING.md).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = conv(inputs, outputs, stride=2)
        self.second = conv(outputs, outputs, relu=False)
        self.skip = nn.Sequential(nn.AvgPool2d(2), conv(inputs, outputs, kernel=1, relu=False))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H_2 W_2"]:
        return F.relu(self.second(self.first(x)) + self.skip(x), inplace=True)


def conv(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, relu: bool = True
) -> nn.Sequential:
    """Convolution, BatchNorm and, unless a sum follows, ReLU."""
    layers = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)
