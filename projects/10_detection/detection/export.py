"""A detector as one ONNX file: a picture in, boxes after NMS out, and no torch to run it."""

import json
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from statistics import median

import onnx
import onnxruntime
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor, nn

from detection.config import ExportConfig
from detection.data import load
from detection.letterbox import GREY
from detection.model import Detections, Detector
from detection.predict import load_detector
from trainloop import LabError, atomic_write

OPSET = 18  # of 2022: any onnxruntime since 1.14 reads it
CANDIDATES = 1000  # into NMS at most, as in `Detector.detect`
TOLERANCE = 1e-4  # of the image's side, and score; rounding alone: 2e-7 (small), 5e-6 (resnet50)
CHECKED = 100  # images that a file is held against torch on

LETTERBOX = (
    "turn the photo as its EXIF orientation says; resize it (RGB, bicubic with antialiasing) by "
    "image_size / max(width, height) to whole pixels, at least 1; paste it at "
    f"(image_size - its size) // 2 into a square of the colour {GREY}"
)


def export_checkpoint(config: ExportConfig) -> dict[str, float]:
    """Write a checkpoint as ONNX and print how it compares with torch.

    The file gets its name once it has been held against torch: no wrong one is left behind.

    Returns:
        megabytes; difference, the largest (`check_onnx`); boxes, how many were compared; torch_ms
        and onnxruntime_ms, the median time for one image with NMS, on one thread.

    Raises:
        LabError: the checkpoint or the data that it was trained on cannot be read, the file cannot
            be written there, or it finds something else than torch.
    """
    if config.out.is_dir():
        raise LabError(f"{config.out} is a folder: name a file with --out")
    model, checkpoint = load_detector(config.checkpoint, torch.device("cpu"))
    trained, classes = checkpoint["config"], checkpoint["notes"]["classes"]
    images = load(trained["data"], "val", trained["image_size"]).first(CHECKED).images

    unchecked = config.out.with_name(f".{config.out.name}.unchecked")
    try:
        export_onnx(model, unchecked, trained["image_size"], classes, score=config.score,
                    iou=config.iou, most=config.most)  # fmt: skip
        exported = OnnxDetector(unchecked)
        facts = {
            "megabytes": unchecked.stat().st_size / 1e6,
            "difference": check_onnx(model, unchecked, images),
            "boxes": sum(len(exported.detect(image[None]).scores) for image in images),
            "torch_ms": milliseconds(lambda image: model.detect(image, **exported.options), images),
            "onnxruntime_ms": milliseconds(exported.detect, images),
        }
        unchecked.replace(config.out)
    finally:
        unchecked.unlink(missing_ok=True)

    print(f"file: {config.out}")
    print(f"size: {facts['megabytes']:.2f} MB")
    print(
        f"largest difference from torch: {facts['difference']:.1e} (score, or share of the "
        f"image's side) over {facts['boxes']} boxes in {len(images)} val images"
    )
    print(f"torch: {facts['torch_ms']:.1f} ms per image, one thread")
    print(f"onnxruntime: {facts['onnxruntime_ms']:.1f} ms per image, one thread")
    return facts


# --- writing -----------------------------------------------------------------------------------


def export_onnx(
    model: Detector,
    path: Path,
    image_size: int,
    classes: Sequence[str],
    *,
    score: float | int = 0.05,
    iou: float | int = 0.6,
    most: int = 100,
) -> None:
    """Write what `Detector.detect` does with one image as an ONNX graph.

    Input: `images`, uint8 (1, 3, S, S), RGB. Outputs, best first: `boxes`, float32 (n, 4), xyxy in
    pixels of the square; `scores`, float32 (n,), 0..1; `labels`, int64 (n,). The file's metadata
    holds the classes' names, S, the options and the way from a photo to `images`.

    Args:
        model: left as it is; what is exported is its copy in evaluation mode.
        image_size: S, a multiple of the largest stride.
        classes: the labels' names.
        score, iou, most: as in `Detector.detect`.

    Raises:
        LabError: more or fewer names than the model has classes.
    """
    known = model.class_out.out_channels
    if len(classes) != known:
        raise LabError(f"the model knows {known} classes, {len(classes)} are named: name each")
    example = torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8)
    candidates = Candidates(deepcopy(model).cpu().eval())
    # torch.export first: it computes with the sizes at once, so that points are constants. The
    # exporter's own tracer makes nodes of them, which count in double where torch does in float.
    with torch.no_grad():
        program = torch.export.export(candidates, (example,), strict=False).module()
    outputs = ["boxes", "scores", "labels"]
    buffer = BytesIO()
    torch.onnx.export(
        Suppressed(program, known, score, iou, most),
        (example,),
        buffer,
        input_names=["images"],
        output_names=outputs,
        dynamic_axes={name: {0: "n"} for name in outputs},
        opset_version=OPSET,
        dynamo=False,  # the other exporter needs a package more
    )
    exported = onnx.load_model_from_string(buffer.getvalue())
    about = {
        "classes": json.dumps(list(classes), ensure_ascii=False),
        "image_size": image_size,
        "score": score,
        "iou": iou,
        "most": most,
        "letterbox": LETTERBOX,
        "outputs": "boxes: xyxy in pixels of the square; scores: 0..1; labels: index into classes",
    }
    onnx.helper.set_model_props(exported, {name: str(value) for name, value in about.items()})
    onnx.checker.check_model(exported, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda file: file.write(exported.SerializeToString()))


class Candidates(nn.Module):
    """The best points of one image, before NMS: all that has a shape known beforehand."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, images: UInt8[Tensor, "1 3 S S"]
    ) -> tuple[Float32[Tensor, "K 4"], Float32[Tensor, " K"], Int64[Tensor, " K"]]:
        """Boxes, scores and labels, best first; of equals the earlier point, then class."""
        predictions = self.model(images)
        probability = sigmoid(predictions.logits[0])  # (A, C)
        if predictions.centerness is not None:
            probability = (probability * sigmoid(predictions.centerness[0])[:, None]).sqrt()
        scores, index = probability.flatten().topk(min(CANDIDATES, probability.numel()))
        point, label = index // probability.shape[1], index % probability.shape[1]
        return predictions.boxes[0, point].clamp(0, images.shape[-1]), scores, label


def sigmoid(x: Float32[Tensor, "*n"]) -> Float32[Tensor, "*n"]:
    """The logistic function, step by step.

    onnxruntime's own is a rational approximation that is exact to 3e-8, not to a share of its
    value: low scores that lie close together would change places, and NMS would keep others.
    """
    return 1 / (1 + (-x).exp())


class Suppressed(nn.Module):
    """What is left of the candidates after NMS within each class."""

    def __init__(
        self, candidates: nn.Module, classes: int, score: float | int, iou: float | int, most: int
    ) -> None:
        super().__init__()
        self.candidates, self.classes = candidates, classes
        self.score, self.iou, self.most = score, iou, most

    def train(self, mode: bool = True) -> "Suppressed":
        """Nothing to switch: a torch.export program is fixed, and says so with an exception."""
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boxes, scores, labels = self.candidates(images)  # (K, 4), (K,), (K,)
        own = labels == torch.arange(self.classes)[:, None]
        of_class = scores.where(own, -torch.inf)  # (C, K): no class sees another's candidates
        chosen = NonMaxSuppression.apply(
            boxes[None], of_class[None], self.most, self.iou, self.score
        )
        keep = chosen[:, 2].sort().values[: self.most]  # candidates are best first already
        return boxes[keep], scores[keep], labels[keep]


class NonMaxSuppression(torch.autograd.Function):
    """ONNX's operator of this name, for which torch has no equal."""

    @staticmethod
    def forward(ctx, boxes, scores, most, iou, score) -> Tensor:
        """A stand-in of the right type: the exporter looks at no more."""
        return torch.zeros(1, 3, dtype=torch.int64)

    @staticmethod
    def symbolic(g, boxes, scores, most, iou, score):
        """Rows of (image, class, candidate), any order; drops IoU > iou, keeps scores > score."""
        limits = [torch.tensor([most]), *(torch.tensor([float(x)]) for x in (iou, score))]
        constants = [g.op("Constant", value_t=limit) for limit in limits]
        return g.op("NonMaxSuppression", boxes, scores, *constants)


# --- reading -----------------------------------------------------------------------------------


class OnnxDetector:
    """An exported file at work in onnxruntime, on one thread of the CPU.

    Raises:
        LabError: the file is missing, damaged, or none that `export_onnx` wrote.
    """

    def __init__(self, path: Path) -> None:
        session_options = onnxruntime.SessionOptions()
        session_options.intra_op_num_threads = 1
        try:
            self.session = onnxruntime.InferenceSession(
                path, session_options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has a kind for each way of being damaged
            reason = str(error).splitlines()[0]
            raise LabError(f"{path} cannot be read: {reason}: export it again") from None
        about = self.session.get_modelmeta().custom_metadata_map
        try:
            self.classes = json.loads(about["classes"])
            self.image_size = int(about["image_size"])
            self.options = {"score": float(about["score"]), "iou": float(about["iou"]),
                            "most": int(about["most"])}  # fmt: skip
        except KeyError:
            raise LabError(f"{path} is ONNX, but not written by `export`: name another") from None

    def detect(self, images: UInt8[Tensor, "1 3 S S"]) -> Detections:
        """As `Detector.detect`, of one image."""
        outputs = self.session.run(None, {"images": images.numpy()})
        return Detections(*(torch.from_numpy(output) for output in outputs))


def check_onnx(model: Detector, path: Path, images: UInt8[Tensor, "N 3 S S"]) -> float:
    """The largest `difference` between a file's detections and those of `model.detect`.

    Pixels are no measure for all: in float32 those of a photo of 640 are exact to 6e-5 at best.

    Raises:
        LabError: it is above `TOLERANCE`, or the file cannot be read or takes images of another
            size.
    """
    exported = OnnxDetector(path)
    size = exported.image_size
    if images.shape[2:] != (size, size):
        given = "x".join(map(str, images.shape[2:]))
        raise LabError(f"{path} takes images of {size}x{size}, not of {given}: give it such")
    largest = 0.0
    for number, image in enumerate(images.split(1)):
        (expected,) = model.detect(image, **exported.options)
        apart = difference(exported.detect(image), expected, size)
        if apart > TOLERANCE:
            raise LabError(
                f"{path} differs from torch by {apart:.1e} in image {number}, more than "
                f"{TOLERANCE}: export it again from this checkpoint"
            )
        largest = max(largest, apart)
    return largest


def difference(a: Detections, b: Detections, image_size: int) -> float:
    """The largest difference of scores, of boxes' sides as shares of the image's, of labels (>= 1).

    Each detection is held against the nearest of the other side, since scores that differ in the
    seventh digit may change places. Infinite where the numbers of detections differ.
    """
    if len(a.scores) != len(b.scores):
        return torch.inf
    if len(a.scores) == 0:
        return 0.0
    rows = [
        torch.cat([one.boxes / image_size, one.scores[:, None], one.labels[:, None]], dim=1)
        for one in (a, b)
    ]
    apart = torch.cdist(*rows, p=torch.inf)  # (n, n)
    in_order = (a.scores - b.scores).abs()
    return torch.cat([apart.amin(0), apart.amin(1), in_order]).max().item()


def milliseconds(
    detect: Callable[[UInt8[Tensor, "1 3 S S"]], object], images: UInt8[Tensor, "N 3 S S"]
) -> float:
    """Median time that `detect` takes for one image, with one thread of torch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        detect(images[:1])  # the first call allocates
        times = []
        for image in images.split(1):
            start = time.perf_counter()
            detect(image)
            times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return 1000 * median(times)
