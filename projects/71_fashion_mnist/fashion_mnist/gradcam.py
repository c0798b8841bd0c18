"""Where does the model look? Grad-CAM (Selvaraju 2017), by hand."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from fashion_mnist.model import Classifier


def grad_cam(
    model: Classifier, images: Float[Tensor, "B 1 h w"], classes: Int64[Tensor, " B"]
) -> Float[Tensor, "B H W"]:
    """How much each place of the last feature maps A speaks for a class, at their resolution.

    With Z places in a map and the class's logit y:

        alpha_k = 1/Z sum_ij dy / dA_kij        (eq. 1)
        L       = ReLU(sum_k alpha_k A_k)       (eq. 2)

    Of a model that pools by the mean, alpha_k is w_k / Z, and L is Zhou's class activation map
    (2016) over Z.

    Args:
        images: in 0..1.
        classes: whose logit; of each image its own.
    """
    with torch.enable_grad():
        maps = model.maps(images).detach().requires_grad_()  # (B, K, H, W)
        logits = model.head(model.pool(maps))
        chosen = logits.gather(1, classes[:, None]).sum()  # images do not touch each other
        (gradient,) = torch.autograd.grad(chosen, maps)
    alpha = gradient.mean((2, 3), keepdim=True)  # (B, K, 1, 1)
    return F.relu((alpha * maps.detach()).sum(1))


def heat(cam: Float[Tensor, "B H W"], side: int = 28) -> Float[Tensor, "B s s"]:
    """Enlarged to the image, 0 to 1 in each; all 0 where nothing speaks for the class."""
    large = F.interpolate(cam[:, None], (side, side), mode="bilinear", align_corners=False)[:, 0]
    return large / large.amax((1, 2), keepdim=True).clamp(min=1e-12)
