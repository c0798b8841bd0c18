"""What a model says of images: embeddings, logits, probabilities."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fashion_mnist.model import Classifier, Trained


@torch.no_grad()
def embeddings(
    model: Classifier, images: UInt8[Tensor, "N 1 h w"], flip: bool = False, batch: int = 500
) -> Float[Tensor, "N D"]:
    """What the last layer sees of every image, the model in evaluation mode while it lasts.

    Args:
        flip: take the mean of the image's and its mirror image's. The last layer is linear, so its
            logits are the mean of both then, too.
    """
    was_training = model.training
    model.eval()
    found = []
    for part in images.split(batch):
        pixels = part.float() / 255
        found.append(both_ways(model, pixels) if flip else model.embed(pixels))
    model.train(was_training)
    return torch.cat(found)


def both_ways(model: Classifier, pixels: Float[Tensor, "B 1 h w"]) -> Float[Tensor, "B D"]:
    """The mean embedding of images and their mirror images."""
    return (model.embed(pixels) + model.embed(pixels.flip(3))) / 2


@torch.no_grad()
def logits_of(
    model: Classifier, images: UInt8[Tensor, "N 1 h w"], flip: bool = False
) -> Float[Tensor, "N 10"]:
    """The model's logits of every image."""
    return model.head(embeddings(model, images, flip))


@torch.no_grad()
def predict(
    trained: Trained, images: UInt8[Tensor, "N 1 h w"]
) -> tuple[Float[Tensor, "N 10"], Float[Tensor, "N D"]]:
    """Logits (before the temperature) and embeddings of every image."""
    found = embeddings(trained.model, images, trained.flip_test)
    return trained.model.head(found), found
