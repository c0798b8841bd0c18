# /// script
# requires-python = "==3.12.*"
# dependencies = [
#     "detection",
#     "pycocotools>=2.0.10",
#     "torch<2.8",
#     "torchvision>=0.22",
#     "trainloop",
#     "opencv-python-headless>=4.10",
#     "ultralytics>=8.4,<8.5",
# ]
# [tool.uv]
# exclude-dependencies = ["opencv-python"] # needs libGL, which a machine without a screen lacks
# [tool.uv.sources]
# detection = { path = "..", editable = true }
# trainloop = { path = "../../../shared", editable = true }
# ///
"""What does the same CPU time buy elsewhere? Five detectors from nothing on the tabletop scenes.

    uv run --script projects/10_detection/benchmarks/peers.py

Each contestant trains in a process of its own, on one thread, for the same CPU seconds of that
process; what it finds in the 300 test scenes is scored by the same pycocotools. The rules:

- What counts is the training: forward, backward, optimiser, augmentation, reading images,
  checkpoints on the way. What does not: imports, rendering scenes, writing them as files for
  ultralytics, building the model, test evaluation. Ours is a run of the whole command less a run
  of one step, so its looks at validation scenes count against it; the others never look.
- Every learning-rate schedule ends when the budget does: torchvision's follow the clock, ours and
  ultralytics' a calibration just before, so their CPU seconds differ a little from the budget.
- All weights start random. Hardly visible solids (`ignore`) are left out of the peers' targets, as
  they know no such thing, and are COCO's crowd for all in the evaluation.
- A second contestant may run on the second core (`--jobs 2`).

Results are appended to peers.jsonl as they come, and a rerun skips what is there: delete a line to
have it measured again.

How the peers' settings were found: on the 200 validation scenes, 120 CPU s each, one seed. YOLO11n
tuned had AP 0.383 with a learning rate of 2e-3, 0.361 with 5e-3; with its defaults 0.181 in ten
epochs, 0.177 in five. Its defaults include gradients of 64 images a step, and `close_mosaic=10`: no
mosaic in the last ten epochs, which are all. The tuned one steps every 16 images, keeps flips and
colours as ours does, drops scaling and shifting, and is trained in channels_last. torchvision's two
see too few images for any choice to matter; their learning rates are the first ones tried.
"""

import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from detection.data import Split, load
from trainloop import LabError, entry_point, parse
from trainloop.paths import workspace_root

SCORE, MOST = 0.01, 100  # of each image's detections: the lowest score, the largest number
SCENES = 8000  # in the training set
CPU, CHANNELS_LAST = torch.device("cpu"), torch.channels_last


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure."""

    budgets: tuple[float, ...] = (300.0, 600.0)
    """CPU seconds of training."""
    only: tuple[str, ...] = ()
    """Contestants by their short names; all if left out."""
    seeds: tuple[int, ...] = (0,)
    """Of weights, order and augmentation; the table gives means."""
    jobs: int = 2
    """Contestants at a time, one thread each."""
    out: Path = workspace_root() / "runs/benchmarks/peers"
    """Folder for peers.jsonl, peers.md and logs."""
    smoke: bool = False
    """Check that everything runs: a budget of 4 seconds, in a folder of its own."""
    here: bool = False
    """Run in this process: how the subprocesses are called."""


class Trained(NamedTuple):
    """A contestant whose time is up."""

    model: nn.Module
    images: int  # trained on, repeats counted
    seconds: float  # CPU time of the training
    detect: Callable[[Tensor], list[Tensor]]  # uint8 (B, 3, H, W) -> for each image (n, 6):
    # x1, y1, x2, y2 in pixels, score, label
    batch: int  # images at a time in its own evaluation
    settings: str  # in words, for the record


# --- the contestants ---------------------------------------------------------------------------


def ours(budget: float, seed: int, folder: Path) -> Trained:
    """This project's `train` with its defaults; only the number of steps follows the budget."""
    from detection.config import TrainConfig
    from detection.predict import load_detector
    from detection.train import train

    os.environ["LAB_RUNS"] = str(folder)

    def seconds(steps: int) -> float:
        begin = time.process_time()
        train(TrainConfig(steps=steps, seed=seed, device="cpu"))
        return time.process_time() - begin

    seconds(1)  # imports, and the first use of everything
    overhead = seconds(1)  # reading the scenes, one look at validation and test scenes, pictures
    probe = probe_steps(budget)
    steps = max(2, round(budget * probe / (seconds(1 + probe) - overhead)))
    spent = seconds(steps) - overhead
    model, checkpoint = load_detector(folder / "detection/latest/last.pt", CPU)

    def detect(images: Tensor) -> list[Tensor]:
        found = model.detect(images, score=SCORE, most=MOST)
        return [
            torch.cat([one.boxes, one.scores[:, None], one.labels[:, None]], 1) for one in found
        ]

    batch = checkpoint["config"]["batch_size"]
    return Trained(model, steps * batch, spent, detect, 50, f"{steps} steps of {batch}")


def yolo(
    budget: float, seed: int, folder: Path, *, epochs: int, nhwc: bool = False, **settings: Any
) -> Trained:
    """ultralytics' YOLO11n by its own trainer.

    Its schedule goes by epochs, so the budget decides how many scenes an epoch has; more epochs
    than `epochs` only where there are no more scenes.
    """
    os.environ["YOLO_OFFLINE"] = "1"  # no analytics, no look for updates
    os.environ["YOLO_CONFIG_DIR"] = str(folder)
    from ultralytics import YOLO
    from ultralytics.utils.nms import non_max_suppression

    write_yolo(load("tabletop", "val").first(50), folder / "val")  # it insists on some at the end
    batch = 16

    def fit(scenes: int, epochs: int) -> tuple[Path, list[float]]:
        """The last checkpoint, and the process's CPU time at the start and after each batch."""
        write_yolo(load("tabletop", "train").first(scenes), folder / f"train{scenes}")
        names = load("tabletop", "val").classes
        data = {"path": str(folder), "train": f"train{scenes}", "val": "val", "names": names}
        (folder / "data.yaml").write_text(json.dumps(data))  # JSON is YAML
        times: list[float] = []
        model = YOLO("yolo11n.yaml")
        if nhwc:
            model.add_callback(
                "on_train_start", lambda it: it.model.to(memory_format=CHANNELS_LAST)
            )
        model.add_callback("on_train_start", lambda it: times.append(time.process_time()))
        model.add_callback("on_train_batch_end", lambda it: times.append(time.process_time()))
        model.train(data=str(folder / "data.yaml"), epochs=epochs, imgsz=128, batch=batch,
                    seed=seed, device="cpu", workers=0, amp=False, val=False, plots=False,
                    project=str(folder), name=f"run{scenes}", **settings)  # fmt: skip
        return Path(model.trainer.last), times

    probe = probe_steps(budget)
    times = fit(scenes=probe * batch, epochs=2)[1]
    steps = round(budget * probe / (times[-1] - times[probe]))  # the first epoch warms up
    epochs = max(epochs, math.ceil(steps * batch / SCENES))
    scenes = max(1, round(steps / epochs)) * batch
    last, times = fit(scenes, epochs)
    trained = YOLO(last).model  # the moving average
    model = YOLO(last).model.fuse().eval().to(memory_format=CHANNELS_LAST)

    @torch.inference_mode()
    def detect(images: Tensor) -> list[Tensor]:
        # As its validator does, but for the time limit, which on a busy machine drops images.
        return non_max_suppression(
            model(images / 255), SCORE, 0.7, multi_label=True, max_det=MOST, max_time_img=math.inf
        )

    words = f"{epochs} epochs of {scenes} scenes, batch {batch}"
    return Trained(trained, epochs * scenes, times[-1] - times[0], detect, 2 * batch, words)


def probe_steps(budget: float) -> int:
    """Steps to calibrate with: 60 for 300 s; with 20 YOLO's came out a tenth too dear."""
    return max(4, min(60, round(budget / 5)))


def write_yolo(data: Split, folder: Path) -> None:
    """Scenes as ultralytics reads them; BMP, which loses nothing and is read quickest."""
    import cv2

    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    side = data.images.shape[-1]
    for index, (image, target) in enumerate(zip(data.images, targets(data), strict=True)):
        pixels = image.permute(1, 2, 0).numpy()[..., ::-1]  # BGR
        cv2.imwrite(str(folder / f"images/{index}.bmp"), pixels)
        lines = [
            f"{label - 1} {(x1 + x2) / 2 / side} {(y1 + y2) / 2 / side} "
            f"{(x2 - x1) / side} {(y2 - y1) / side}\n"
            for label, (x1, y1, x2, y2) in zip(
                target["labels"].tolist(), target["boxes"].tolist(), strict=True
            )
        ]
        (folder / f"labels/{index}.txt").write_text("".join(lines))


def torchvision_peer(
    budget: float, seed: int, folder: Path, *, make: Callable[..., nn.Module], batch: int, lr: float
) -> Trained:
    """One of torchvision's detectors in a plain loop: AdamW, flips, warm-up and cosine."""
    torch.manual_seed(seed)
    data = load("tabletop", "train")
    truth, width = targets(data), data.images.shape[-1]
    model = make(len(data.classes) + 1).to(memory_format=CHANNELS_LAST)  # with the background
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1  # SSDlite's 0.03 would remember the start after so few steps
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05, fused=True)
    order, steps = torch.randperm(len(truth)), 0
    begin = time.process_time()
    while (share := (time.process_time() - begin) / budget) < 1:
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, share / 0.05) * (1 + math.cos(math.pi * share)) / 2
        images, wanted = [], []
        for index in order[torch.arange(steps * batch, (steps + 1) * batch) % len(order)].tolist():
            image, boxes = data.images[index] / 255, truth[index]["boxes"]
            if torch.rand(()) < 0.5:
                image = image.flip(-1)
                boxes = torch.stack([width - boxes[:, 2], boxes[:, 1],
                                     width - boxes[:, 0], boxes[:, 3]], 1)  # fmt: skip
            images.append(image)
            wanted.append({"boxes": boxes, "labels": truth[index]["labels"]})
        loss = sum(model(images, wanted).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    spent = time.process_time() - begin
    model.eval()

    @torch.inference_mode()
    def detect(images: Tensor) -> list[Tensor]:
        found = model(list(images / 255))
        return [
            torch.cat([one["boxes"], one["scores"][:, None], one["labels"][:, None] - 1], 1)
            for one in found
        ]

    words = f"{steps} steps of {batch}, AdamW {lr:g}"
    return Trained(model, steps * batch, spent, detect, batch, words)


def targets(data: Split) -> list[dict[str, Tensor]]:
    """The objects of each scene as torchvision wants them: label 0 is the background."""
    real = (data.labels >= 0) & ~data.ignore
    return [
        {"boxes": boxes[keep], "labels": labels[keep] + 1}
        for boxes, labels, keep in zip(data.boxes, data.labels, real, strict=True)
    ]


def ssdlite(classes: int) -> nn.Module:
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large as make

    return make(weights=None, weights_backbone=None, num_classes=classes,
                score_thresh=SCORE, detections_per_img=MOST)  # fmt: skip


def fcos(classes: int) -> nn.Module:
    from torchvision.models.detection import fcos_resnet50_fpn as make

    return make(weights=None, weights_backbone=None, num_classes=classes, min_size=128,
                score_thresh=SCORE, detections_per_img=MOST)  # fmt: skip


CONTESTANTS: dict[str, tuple[str, Callable[[float, int, Path], Trained]]] = {
    "ours": ("ours", ours),
    "yolo": ("YOLO11n, defaults", partial(yolo, epochs=10)),
    "yolo-tuned": (
        "YOLO11n, tuned",
        partial(yolo, epochs=3, nhwc=True, optimizer="AdamW", lr0=2e-3, cos_lr=True, nbs=16,
                warmup_epochs=0.2, warmup_bias_lr=0.0, mosaic=0.0, translate=0.0, scale=0.0,
                cache="ram", deterministic=False),
    ),
    "ssdlite": (
        "torchvision SSDlite320 MobileNetV3",
        partial(torchvision_peer, make=ssdlite, batch=8, lr=1e-3),
    ),
    "fcos": (
        "torchvision FCOS ResNet-50",
        partial(torchvision_peer, make=fcos, batch=8, lr=3e-4),
    ),
}  # fmt: skip


# --- the referee -------------------------------------------------------------------------------


def compete(name: str, budget: float, seed: int) -> dict[str, Any]:
    """Train one contestant in this process, and measure it."""
    with tempfile.TemporaryDirectory() as folder:
        trained = CONTESTANTS[name][1](budget, seed, Path(folder))
        test = load("tabletop", "test")
        trained.detect(test.images[: trained.batch])  # warms up
        begin = time.process_time()
        found = [one for part in test.images.split(trained.batch) for one in trained.detect(part)]
        detecting = time.process_time() - begin
    return {
        "name": name,
        "budget": budget,
        "seed": seed,
        "settings": trained.settings,
        "parameters": sum(p.numel() for p in trained.model.parameters()),
        "images": trained.images,
        "cpu_seconds": round(trained.seconds, 1),
        "train_ms": 1000 * trained.seconds / trained.images,
        "detect_ms": 1000 * detecting / len(test.images),
        **average_precision(found, test),
        "threads": torch.get_num_threads(),
        "versions": {one: version(one) for one in ("torch", "torchvision", "ultralytics")},
        "machine": cpu_name(),
    }


def average_precision(found: list[Tensor], data: Split) -> dict[str, float]:
    """COCO's AP@[.5:.95] and AP50, in 0..1, by pycocotools; `found` as of `Trained.detect`."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations = []
    for image, slot in (data.labels >= 0).nonzero().tolist():
        x1, y1, x2, y2 = data.boxes[image, slot].tolist()
        annotations.append({
            "id": len(annotations) + 1,  # COCOeval takes 0 for "not matched"
            "image_id": image,
            "category_id": int(data.labels[image, slot]),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": int(data.ignore[image, slot]),
        })  # fmt: skip
    rows = []
    for image, one in enumerate(found):
        x1, y1, x2, y2, score, label = one.double().numpy().T
        rows.append(np.stack([np.full_like(x1, image), x1, y1, x2 - x1, y2 - y1, score, label], 1))
    detections = np.concatenate(rows)
    if len(detections) == 0:
        return {"ap": 0.0, "ap50": 0.0}
    with redirect_stdout(StringIO()):  # it prints its progress
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(len(data.images))],
            "categories": [{"id": label} for label in range(len(data.classes))],
            "annotations": annotations,
        }
        truth.createIndex()
        coco = COCOeval(truth, truth.loadRes(detections), "bbox")
        coco.evaluate()
        coco.accumulate()
        coco.summarize()
    return {"ap": float(coco.stats[0]), "ap50": float(coco.stats[1])}


def cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


# --- the tournament ----------------------------------------------------------------------------


def results(out: Path) -> list[dict[str, Any]]:
    path = out / "peers.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: means over seeds (± their standard deviation), in brackets the ratio to ours."""
    groups: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["budget"], row["name"]), []).append(row)
    lines = [
        "| CPU budget | contestant | seeds | parameters | CPU s | images seen "
        "| ms per trained image | ms per detected image | AP | AP50 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    order = list(CONTESTANTS)
    for budget, name in sorted(groups, key=lambda key: (key[0], order.index(key[1]))):
        own = groups[budget, name]
        reference = groups.get((budget, "ours"), []) if name != "ours" else []
        cells = [
            f"{budget:g} s",
            CONTESTANTS[name][0],
            f"{len(own)}",
            f"{own[0]['parameters']:,}",
            cell("cpu_seconds", 0, own),
            cell("images", 0, own, reference),
            cell("train_ms", 1, own, reference),
            cell("detect_ms", 1, own, reference),
            cell("ap", 3, own, reference),
            cell("ap50", 3, own, reference),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(
    key: str, digits: int, own: list[dict[str, Any]], reference: list[dict[str, Any]] | None = None
) -> str:
    values = [row[key] for row in own]
    text = f"{statistics.mean(values):,.{digits}f}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):,.{digits}f}"
    if reference and (unit := statistics.mean(row[key] for row in reference)):
        text += f" ({statistics.mean(values) / unit:.2f}x)"
    return text


@entry_point
def main() -> None:
    options = parse(Options, __doc__)
    if unknown := set(options.only) - set(CONTESTANTS):
        raise LabError(f"--only {' '.join(unknown)}: take from {', '.join(CONTESTANTS)}")
    names = options.only or tuple(CONTESTANTS)
    out = (options.out / "smoke" if options.smoke else options.out).absolute()
    budgets = (4.0,) if options.smoke else options.budgets
    out.mkdir(parents=True, exist_ok=True)

    if options.here:
        result = compete(names[0], budgets[0], options.seeds[0])
        with (out / "peers.jsonl").open("a") as file:
            file.write(json.dumps(result) + "\n")
        return

    if options.smoke:
        (out / "peers.jsonl").unlink(missing_ok=True)
    for split in ("train", "val", "test"):
        load("tabletop", split)  # renders them where they are missing: once, and on nobody's clock
    done = {(row["name"], row["budget"], row["seed"]) for row in results(out)}
    matches = [(name, budget, seed) for seed in options.seeds for budget in budgets
               for name in names if (name, budget, seed) not in done]  # fmt: skip

    def play(match: tuple[str, float, int]) -> bool:
        name, budget, seed = match
        log = out / f"{name}-{budget:g}s-seed{seed}.log"
        begin = time.perf_counter()
        command = [sys.executable, __file__, "--here", "--only", name, "--budgets", str(budget),
                   "--seeds", str(seed), "--out", str(out)]  # fmt: skip
        with log.open("w") as file:
            code = subprocess.run(
                command, stdout=file, stderr=subprocess.STDOUT, check=False,
                env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            ).returncode  # fmt: skip
        took = f"{time.perf_counter() - begin:.0f} s"
        print(f"{name}, {budget:g} s, seed {seed}: "
              + (f"done in {took}" if code == 0 else f"failed in {took}, see {log}"),
              file=sys.stderr, flush=True)  # fmt: skip
        return code == 0

    with ThreadPoolExecutor(options.jobs) as pool:
        complete = all(list(pool.map(play, matches)))
    text = table(results(out))
    (out / "peers.md").write_text(text)
    print(text)
    if not complete:
        raise LabError("some contestants failed; the others are kept: mend it and run again")


if __name__ == "__main__":
    main()
