"""Where a classifier sees a label: Grad-CAM++ (Chattopadhyay et al. 2018, doi:10.1109/WACV.2018.00097)."""

import torch

from rephase.errors import RephaseError
from rephase.labs.images.data.batch import ImageBatch
from rephase.labs.images.models.networks import ImageClassifier


def activation_map(model: ImageClassifier, batch: ImageBatch, label: int) -> torch.Tensor:
    """Compute the Grad-CAM++ map of one label: the places of the features that support it.

    With the last features A_k(x) and the derivatives g_k(x) of the logit by them, the map is the positive part of
    ``Σ_k w_k A_k`` with ``w_k = Σ_x α_k g_k`` over g_k > 0 and ``α_k = 1 / (2 + g_k Σ_x A_k)``: the weights of the
    reference, reduced by g². Only positive A enters α, as a leaky ReLU passes negative values too. The map is
    interpolated to the image.

    Parameters
    ----------
    model
        A classifier in evaluation mode.
    batch
        Images; their labels are ignored.
    label
        Number of the label, from 0.

    Returns
    -------
    Tensor
        Maps [batch, y, x] from 0 to 1, each scaled to a maximum of 1; 0 where nothing supports the label.

    Raises
    ------
    RephaseError
        The model has no such label.
    """
    if not 0 <= label < model.n_labels:
        raise RephaseError(f"label = {label}: expected 0 to {model.n_labels - 1}, the labels of the model")
    with torch.no_grad():
        features = model.features(batch)
    with torch.enable_grad():
        features.requires_grad_()
        (gradient,) = torch.autograd.grad(model.logits(features)[:, label].sum(), features)
    features, towards = features.detach(), gradient.relu()
    alpha = 1 / (2 + towards * features.relu().sum((-2, -1), keepdim=True))
    weight = (alpha * towards).sum((-2, -1), keepdim=True)
    coarse = (weight * features).sum(1, keepdim=True).relu()
    fine = torch.nn.functional.interpolate(coarse, batch.image.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    return fine / fine.amax((-2, -1), keepdim=True).clamp_min(torch.finfo(fine.dtype).tiny)
