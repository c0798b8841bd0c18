"""Look into a trained model, from all sides; everything is kept in the run's folder."""

import json
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from matplotlib.figure import Figure
from torch import Tensor

from fashion_mnist import pictures
from fashion_mnist.calibration import reliability, scores
from fashion_mnist.config import EvaluateConfig
from fashion_mnist.data import CLASSES, Labelled, load
from fashion_mnist.gradcam import grad_cam, heat
from fashion_mnist.maps import pca, tsne
from fashion_mnist.metrics import confusion_matrix, per_class
from fashion_mnist.model import Trained, load_trained
from fashion_mnist.predict import predict
from fashion_mnist.suspects import Suspects, find_suspects
from trainloop import Run, write_text


def evaluate(config: EvaluateConfig) -> dict[str, float | int | None]:
    """Confusion, figures of each class, calibration, mistakes, suspects, maps, Grad-CAM.

    All of it on test images; suspects among the validation images too, for the model has learned
    from neither. (Their labels gave it nothing but one number, the temperature.)

    Returns:
        The metrics, which are in summary.json too; classes.json has those of each class.

    Raises:
        LabError: there is no model, or its file is damaged or another project's.
    """
    trained = load_trained(config.model_file)
    _, validation_set, test_set = load()
    run = Run.open("fashion-mnist", config, "evaluate")
    run.resume()
    logits, embedding = predict(trained, test_set.images)
    probabilities = (logits / trained.temperature).softmax(1)
    predicted, labels = logits.argmax(1), test_set.labels

    before, after = scores(logits, labels), scores(logits, labels, trained.temperature)
    run.log(1, temperature=trained.temperature)
    run.log(1, **{f"test/{name}_unscaled": before[name] for name in ("nll", "brier", "ece")})
    run.log(1, **{f"test/{name}": value for name, value in after.items()})
    table = class_table(labels, predicted)
    keep(run.folder / "classes.json", table)
    run.log(1, worst_f1=min(row["f1"] for row in table["classes"].values()))

    run.picture("confusion", pictures.confusion(labels, predicted))
    diagrams = {
        "as trained": reliability(logits.softmax(1), labels),
        f"temperature {trained.temperature:.2f}": reliability(probabilities, labels),
    }
    run.picture("reliability", pictures.reliability_diagrams(diagrams))
    run.picture("mistakes", pictures.mistakes(test_set, probabilities, config.shown))

    unseen = Labelled(*(torch.cat(pair) for pair in zip(validation_set, test_set, strict=True)))
    of_validation, _ = predict(trained, validation_set.images)
    of_unseen = torch.cat([(of_validation / trained.temperature).softmax(1), probabilities])
    suspects = find_suspects(of_unseen, unseen.labels)
    run.log(1, suspects=len(suspects.indices), judged=len(unseen.labels))
    keep(run.folder / "suspects.json", suspect_list(suspects, unseen, len(validation_set.images)))
    if len(suspects.indices):
        run.picture("suspects", draw_suspects(suspects, unseen, config.shown))

    generator = torch.Generator().manual_seed(config.seed)
    some = torch.randperm(len(labels), generator=generator)[: config.mapped]
    x = embedding[some].numpy()
    maps = {"PCA": pca(x, 2), "t-SNE": tsne(x, 2, config.seed)}
    run.picture("map", pictures.embedding_maps(maps, labels[some], predicted[some]))
    if trained.model.has_maps:
        run.picture("gradcam", draw_looks(trained, test_set, probabilities))
    else:
        print(f"no gradcam.png: {trained.recipe.model} has no feature maps")
    print_table(table)
    print(f"pictures and figures: {run.folder}")
    return run.finish(images=len(labels))


def class_table(labels: Int64[Tensor, " N"], predicted: Int64[Tensor, " N"]) -> dict:
    """The confusion matrix, and precision, recall and F1 of each class, as JSON has them."""
    matrix = confusion_matrix(labels, predicted)
    found = per_class(matrix)
    return {
        "confusion": matrix.tolist(),
        "classes": {
            name: {key: round(values[k].item(), 4) for key, values in found._asdict().items()}
            for k, name in enumerate(CLASSES)
        },
    }


def print_table(table: dict) -> None:
    """The figures of each class, a line each."""
    print(f"{'':<12} precision  recall     F1")
    for name, row in table["classes"].items():
        print(f"{name:<12} {row['precision']:9.1%} {row['recall']:7.1%} {row['f1']:6.1%}")


def where(index: int, validation: int) -> tuple[str, int]:
    """The split of an image of both, validation first, and its number there.

    Validation images are numbered as in the published training set, whose end they are.
    """
    return ("train", 60_000 - validation + index) if index < validation else (
        "test", index - validation)  # fmt: skip


def suspect_list(suspects: Suspects, unseen: Labelled, validation: int) -> dict:
    """The suspects as JSON has them, and the confident joint."""
    rows = []
    for index, likely, margin in zip(
        suspects.indices.tolist(), suspects.likely.tolist(), suspects.margin.tolist(), strict=True
    ):
        split, number = where(index, validation)
        label = CLASSES[int(unseen.labels[index])]
        rows.append(
            {"split": split, "index": number, "label": label, "likely": CLASSES[likely],
             "margin": round(margin, 4)}
        )  # fmt: skip
    return {"joint": suspects.joint.tolist(), "suspects": rows}


def draw_suspects(suspects: Suspects, unseen: Labelled, count: int) -> Figure:
    """The clearest ones: the label that is given, and the one that may be meant."""
    indices = suspects.indices[:count]
    titles = [
        f"label: {CLASSES[int(unseen.labels[index])]}\nrather: {CLASSES[likely]}"
        for index, likely in zip(indices.tolist(), suspects.likely[:count].tolist(), strict=True)
    ]
    return pictures.grid(unseen.images[indices], titles)


def draw_looks(trained: Trained, data: Labelled, probabilities: Float[Tensor, "N 10"]) -> Figure:
    """Grad-CAM of the predicted class: of each class the surest right and the surest wrong one."""
    confidence, predicted = probabilities.max(1)
    right, chosen = predicted == data.labels, []
    for label in range(len(CLASSES)):
        for kind in (right, ~right):
            which = ((data.labels == label) & kind).nonzero()[:, 0]
            if len(which):
                chosen.append(int(which[confidence[which].argmax()]))
    picked = data.take(torch.tensor(chosen))
    guesses = predicted[chosen]
    warm = heat(grad_cam(trained.model, picked.images.float() / 255, guesses))
    titles = [
        CLASSES[guess] if guess == label else f"{CLASSES[label]}, taken for {CLASSES[guess]}"
        for guess, label in zip(guesses.tolist(), picked.labels.tolist(), strict=True)
    ]
    return pictures.heat_maps(picked.images, warm, titles)


def keep(path: Path, value: dict) -> None:
    """Write a value as JSON."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    write_text(path, text)
