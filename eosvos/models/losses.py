"""Losses between mask logits and labels.

Labels have the shape of the logits and any numeric type; they lie in [0, 1], soft ones included, and 255
marks pixels to leave out of the loss, of its averages and of its class balance. All losses are defined, with
a graph and a finite gradient, when nothing is left to compare. They are of the logits' type, but float32 for
logits of 16 bits.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from eosvos.models.segmenter import IGNORE


def lovasz_hinge(logits: Tensor, labels: Tensor) -> Tensor:
    """Lovász hinge of every region, averaged over the regions (method, section 2).

    logits [N, H, W] unbounded; labels [N, H, W] in [0, 1] or 255. Returns a scalar >= 0; a region without a
    counted pixel adds 0 to the sum but counts in the average, and without any region the loss is 0. No
    gradient flows through the order of the errors or through their weights.
    """
    logits = precise(logits).flatten(1)
    labels = labels.to(logits.dtype).flatten(1)
    counted = labels != IGNORE
    errors = 1 - logits * (2 * labels - 1)
    # Ignored pixels sort behind all others, so that the Jaccard curve of the others is undisturbed.
    order = errors.detach().masked_fill(~counted, -torch.inf).argsort(dim=1, descending=True, stable=True)
    positive = (labels * counted).gather(1, order)
    negative = ((1 - labels) * counted).gather(1, order)
    hinges = errors.masked_fill(~counted, 0).gather(1, order).relu()
    return (hinges * _jaccard_steps(positive, negative)).sum() / max(len(logits), 1)


def _jaccard_steps(positive: Tensor, negative: Tensor) -> Tensor:
    """How much the Jaccard loss grows with each further pixel: [N, P] from sorted soft labels [N, P]."""
    total = positive.sum(1, keepdim=True)
    union = (total + negative.cumsum(1)).clamp_min(torch.finfo(positive.dtype).tiny)
    jaccard = 1 - (total - positive.cumsum(1)) / union
    return jaccard.diff(dim=1, prepend=torch.zeros_like(total))


def bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy, a scalar >= 0: the mean over the counted pixels; logits and labels [B, ...]."""
    logits, labels, counted = _as_groups(logits, labels, per_image=False)
    losses = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return (losses * counted).sum() / counted.sum().clamp_min(1)


def dice(logits: Tensor, labels: Tensor, per_image: bool = False) -> Tensor:
    """Dice loss 1 - (2 sum(p y) + 1) / (sum(p) + sum(y) + 1) with p = sigmoid(logits), a scalar in [0, 1).

    logits and labels [B, ...]. The sums run over the whole batch; with `per_image` over each image, and the
    losses of the images are added up.
    """
    logits, labels, counted = _as_groups(logits, labels, per_image)
    probabilities = logits.sigmoid() * counted
    overlap = (probabilities * labels).sum(1)
    return (1 - (2 * overlap + 1) / (probabilities.sum(1) + labels.sum(1) + 1)).sum()


def class_balanced_bce(
    logits: Tensor, labels: Tensor, per_image: bool = False, size_average: bool = True
) -> Tensor:
    """Cross-entropy in which object and background weigh the same, whatever their sizes; a scalar >= 0.

    logits and labels [B, ...]. Pixels of the object are weighted by the share of the background, and the
    reverse. The shares are those of the whole batch; with `per_image` those of each image, and the losses of
    the images are added up. The sum over pixels is divided by their number, or without `size_average` by that
    of the images.
    """
    batch = len(logits)
    logits, labels, counted = _as_groups(logits, labels, per_image)
    losses = F.binary_cross_entropy_with_logits(logits, labels, reduction="none") * counted
    pixels = counted.sum(1).clamp_min(1)
    share = labels.sum(1) / pixels
    balanced = (1 - share) * (losses * labels).sum(1) + share * (losses * (1 - labels)).sum(1)
    return (balanced / pixels if size_average else balanced * len(logits) / max(batch, 1)).sum()


def _as_groups(logits: Tensor, labels: Tensor, per_image: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels (0 where ignored) and 1 where a pixel counts, all [groups (images or 1), P]."""
    logits = precise(logits)
    logits, labels = (
        x.flatten(1) if per_image else x.flatten()[None] for x in (logits, labels.to(logits.dtype))
    )
    counted = labels != IGNORE
    return logits, labels.masked_fill(~counted, 0), counted.to(logits.dtype)


def precise(logits: Tensor) -> Tensor:
    """Take logits [...] of 16 bits, as autocast makes them, to float32: sums over many need its digits."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
