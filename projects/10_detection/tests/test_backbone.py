"""The backbones: what they give, what stays frozen, and which files of weights they take."""

import inspect
import runpy
import sys
import urllib.error
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.transforms.functional import normalize

from detection import config
from detection.backbone import BACKBONES, Backbone, load_backbone_weights, make_backbone
from trainloop import LabError
from trainloop.checkpoint import save_checkpoint

NAMES = ("small", "resnet18", "resnet50", "mobilenet-v3")
CHANNELS = {
    "small": (16, 24),
    "resnet18": (128, 256, 512),
    "resnet50": (512, 1024, 2048),
    "mobilenet-v3": (40, 112, 960),
}
# What each stage is made of, by the names of the body's layers.
RESNET_STAGES = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))
STAGES = {
    "small": (("0",), ("1",), ("2",), ("3",)),
    "resnet18": RESNET_STAGES,
    "resnet50": RESNET_STAGES,
    "mobilenet-v3": tuple(
        tuple(str(layer) for layer in range(*ends))
        for ends in ((0, 2), (2, 4), (4, 7), (7, 13), (13, 17))
    ),
}
WIDTHS = (8, 8, 16, 24)


def make(name: str, seed: int = 0, **options) -> Backbone:
    torch.manual_seed(seed)
    return make_backbone(name, WIDTHS, **options)


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def settled(model: nn.Module) -> nn.Module:
    """A model whose BatchNorms have seen something, in evaluation mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    return model.eval()


# --- features ----------------------------------------------------------------------------------


def test_the_command_line_offers_every_backbone():
    assert set(get_args(config.Backbone)) == set(BACKBONES)


@pytest.mark.parametrize("name", NAMES)
def test_levels_of_a_wide_image(name):
    backbone = make(name)
    features = backbone(noise(2, 3, 64, 96))
    assert backbone.strides == (8, 16, 32)[: len(features)]
    assert backbone.channels == CHANNELS[name]
    wanted = [
        (2, channels, 64 // stride, 96 // stride)
        for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]
    assert [tuple(level.shape) for level in features] == wanted


@pytest.mark.parametrize("name", ["small", "resnet18", "mobilenet-v3"])
def test_a_batch_is_its_images_one_by_one(name):
    backbone, images = settled(make(name)), noise(3, 3, 64, 32)
    with torch.no_grad():
        together = backbone(images)
        for i in range(3):
            for level, alone in zip(together, backbone(images[i : i + 1]), strict=True):
                torch.testing.assert_close(alone[0], level[i], atol=1e-4, rtol=1e-4)


def test_the_small_backbone_centres_its_pixels():
    backbone, images = settled(make("small")), noise(1, 3, 32, 32)
    coarsest = backbone.body((images.float() - 110) / 60)
    torch.testing.assert_close(backbone(images)[-1], coarsest)


def test_the_small_backbone_does_without_torchvision(monkeypatch):
    """Importing it takes seconds, which the default run need not spend."""
    monkeypatch.setitem(sys.modules, "torchvision", None)  # an import of it now fails
    runpy.run_path(inspect.getfile(Backbone))["make_backbone"]("small")


# --- torchvision's weights -----------------------------------------------------------------------


NODES = {
    "resnet18": ["layer2", "layer3", "layer4"],
    "mobilenet-v3": ["features.6", "features.12", "features.16"],
}


@cache
def torchvision_model(name: str) -> nn.Module:
    torch.manual_seed(1)
    maker = {"mobilenet-v3": "mobilenet_v3_large"}.get(name, name)
    return settled(models.get_model(maker))


@pytest.mark.parametrize("name", NODES)
def test_torchvisions_weights_give_torchvisions_features(name, tmp_path):
    model, images = torchvision_model(name), noise(2, 3, 64, 64)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    backbone = make(name).eval()
    load_backbone_weights(backbone, tmp_path / "weights.pth")
    pixels = normalize(images / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        wanted = create_feature_extractor(model, NODES[name])(pixels)
        for level, (_, other) in zip(backbone(images), wanted.items(), strict=True):
            torch.testing.assert_close(level, other, atol=1e-4, rtol=1e-3)


def test_a_file_without_classifier_and_counters_will_do(tmp_path):
    """Old files of torchvision's have no num_batches_tracked."""
    state = torchvision_model("resnet18").state_dict()
    few = {k: v for k, v in state.items() if "num_batches" not in k and not k.startswith("fc.")}
    torch.save(few, tmp_path / "weights.pth")
    backbone = make("resnet18")
    load_backbone_weights(backbone, str(tmp_path / "weights.pth"))
    loaded = backbone.body.state_dict()
    assert len(few) == 100 and all(torch.equal(loaded[name], few[name]) for name in few)


def test_imagenet_weights_come_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = models.ResNet18_Weights.IMAGENET1K_V1.url
    cached = tmp_path / "hub/checkpoints" / Path(url).name
    cached.parent.mkdir(parents=True)
    state = torchvision_model("resnet18").state_dict()
    torch.save(state, cached)
    backbone = make("resnet18-imagenet", freeze=2)
    assert torch.equal(backbone.body.conv1.weight, state["conv1.weight"])
    assert not backbone.body.conv1.weight.requires_grad

    cached.write_bytes(cached.read_bytes()[:1000])
    with pytest.raises(LabError, match=r"resnet18-\w+.pth is damaged: delete it"):
        make("resnet18-imagenet")


def test_without_a_net_one_learns_how_to_give_a_file(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", offline)
    with pytest.raises(LabError, match="--backbone mobilenet-v3 --backbone-weights FILE") as error:
        make("mobilenet-v3-imagenet")
    assert "no route to host" in str(error.value) and "\n" not in str(error.value)


# --- pretrained by this lab ----------------------------------------------------------------------


def pretrained(path: Path, state: dict, widths=WIDTHS, project="detection", command="pretrain"):
    content = {
        "project": project,
        "command": command,
        "config": {"widths": widths},
        "states": {"backbone": state},
    }
    save_checkpoint(path, content)


def test_weights_of_a_pretrained_backbone(tmp_path):
    source = settled(make("small", seed=1))
    pretrained(tmp_path / "best.pt", source.state_dict())
    backbone, images = make("small").eval(), noise(2, 3, 32, 32)
    assert not torch.equal(backbone(images)[0], source(images)[0])
    load_backbone_weights(backbone, tmp_path / "best.pt")
    for ours, theirs in zip(backbone(images), source(images), strict=True):
        assert torch.equal(ours, theirs)


# --- files that do not fit -----------------------------------------------------------------------


def write_wrong_file(kind: str, path: Path) -> None:
    """A file that the backbone of `test_a_wrong_file_is_refused_in_one_line` cannot start from."""
    state = torchvision_model("mobilenet-v3").state_dict()
    small = make("small").state_dict()
    match kind:
        case "missing":
            return
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("These are not weights.\n" * 50)
        case "cut":
            torch.save(small, path)
            path.write_bytes(path.read_bytes()[:5000])
        case "code":
            torch.save({"features.0.0.weight": write_wrong_file}, path)
        case "one tensor":
            torch.save(state["features.0.0.weight"], path)
        case "no names":
            torch.save({0: torch.zeros(3), 1: torch.zeros(3)}, path)
        case "no tensors":
            torch.save(dict.fromkeys(state, 1.0), path)
        case "renamed":
            torch.save({f"module.{name}": value for name, value in state.items()}, path)
        case "narrow":
            torch.save({**state, "features.0.0.weight": torch.zeros(8, 3, 3, 3)}, path)
        case "resnet18":
            torch.save(torchvision_model("resnet18").state_dict(), path)
        case "pretrained":
            pretrained(path, small)
        case "other widths":
            pretrained(path, small, widths=(16, 32, 64, 128))
        case "other layers":
            pretrained(path, {k: v for k, v in small.items() if "skip" not in k})
        case "of train":
            pretrained(path, small, command="train")
        case "other project":
            pretrained(path, small, project="warmup")


@pytest.mark.parametrize(
    ("name", "kind", "complaint"),
    [
        ("mobilenet-v3", "missing", "no file .*: name the weights"),
        ("mobilenet-v3", "empty", "is damaged, or holds more than tensors"),
        ("mobilenet-v3", "text", "is damaged, or holds more than tensors"),
        ("mobilenet-v3", "cut", "is damaged, or holds more than tensors"),
        ("mobilenet-v3", "code", "is damaged, or holds more than tensors"),
        ("mobilenet-v3", "one tensor", "holds no weights by name"),
        ("mobilenet-v3", "no names", r"missing \(features.0.0.weight, .*2 unknown \(0, 1\)"),
        ("mobilenet-v3", "no tensors", r"are \d+ of another shape .* is no tensor, not \(16, 3,"),
        ("mobilenet-v3", "renamed", r"missing .*unknown \(module.classifier.0.bias, "),
        (
            "mobilenet-v3",
            "narrow",
            r"are 1 of another shape \(features.0.0.weight is \(8, 3, 3, 3\), not \(16, 3,",
        ),
        ("mobilenet-v3", "resnet18", r"missing \(features.*120 unknown \(bn1.bias, "),
        (
            "resnet50",
            "resnet18",
            r"missing .*bn3.*of another shape \(.* \(64, 64, 3, 3\), not \(64, ",
        ),
        ("resnet18", "pretrained", "is a checkpoint of this lab; resnet18 starts from torchvision"),
        ("small", "missing", "no file .*: name the weights"),
        ("small", "resnet18", "is not a checkpoint of `pretrain`"),
        ("small", "other widths", r"\(16, .*, not \(8, 8, 16, 24\): --widths 16 32 64 128"),
        ("small", "other layers", r"15 missing \(body.1.skip.1.0.weight, "),
        ("small", "of train", "was written by `train`: name a checkpoint of `pretrain`"),
        ("small", "other project", "belongs to project 'warmup'"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(name, kind, complaint, tmp_path):
    path = tmp_path / "weights.pth"
    write_wrong_file(kind, path)
    backbone = make(name, seed=2)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with pytest.raises(LabError, match=complaint) as error:
        load_backbone_weights(backbone, path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


# --- frozen --------------------------------------------------------------------------------------


def train_a_step(backbone: Backbone) -> set[str]:
    """Names of the body's parameters and statistics that a step of training changes."""
    before = {name: value.clone() for name, value in backbone.body.state_dict().items()}
    backbone.eval().train()
    learnt = [p for p in backbone.parameters() if p.requires_grad]
    loss = sum((level * torch.randn(level.shape)).sum() for level in backbone(noise(2, 3, 64, 64)))
    if learnt:
        loss.backward()
        torch.optim.SGD(learnt, lr=0.1).step()
    after = backbone.body.state_dict()
    return {name for name in before if not torch.equal(after[name], before[name])}


@pytest.mark.parametrize(
    ("name", "stages"),
    [("small", n) for n in range(5)]
    + [("resnet18", n) for n in (0, 2, 5)]
    + [("mobilenet-v3", n) for n in (0, 1, 3)],
)
def test_frozen_stages_stay_as_they_are_and_the_others_learn(name, stages):
    backbone = make(name, freeze=stages)
    layers = {layer for stage in STAGES[name][stages:] for layer in stage}
    learning = {key for key in backbone.body.state_dict() if key.split(".")[0] in layers}
    assert train_a_step(backbone) == learning
    assert (len(learning) == 0) == (stages == len(STAGES[name]))


@pytest.mark.parametrize("name", ["small", "resnet18"])
def test_frozen_batchnorms_stay_as_they_are_and_the_convolutions_learn(name):
    backbone = make(name, freeze_batchnorm=True)
    norms = {n for n, m in backbone.body.named_modules() if isinstance(m, nn.BatchNorm2d)}
    fixed = {n for n in backbone.body.state_dict() if n.rpartition(".")[0] in norms}
    assert len(fixed) == 5 * len(norms) > 0
    assert train_a_step(backbone) == backbone.body.state_dict().keys() - fixed


def test_frozen_batchnorms_use_their_running_statistics_in_training():
    backbone, images = settled(make("resnet18", freeze_batchnorm=True)), noise(2, 3, 64, 64)
    with torch.no_grad():
        evaluation, training = backbone(images), backbone.train()(images)
    assert backbone.training
    for a, b in zip(evaluation, training, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("stages", [0, 1, 3])
def test_only_what_is_frozen_is_in_evaluation_mode_from_the_start(stages):
    training = [layer.training for layer in make("small", freeze=stages).body]
    assert training == [False] * stages + [True] * (4 - stages)


@pytest.mark.parametrize(("name", "stages", "most"), [("small", 5, 4), ("resnet18", 6, 5)])
def test_more_frozen_stages_than_there_are(name, stages, most):
    with pytest.raises(LabError, match=f"--freeze {stages}: .*{name} has {most} stages"):
        make(name, freeze=stages)


def test_an_unknown_backbone():
    with pytest.raises(LabError, match="'vgg16': choose one of small, resnet18"):
        make("vgg16")
