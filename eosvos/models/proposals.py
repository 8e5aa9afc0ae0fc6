"""Where a detector looks: boxes of masks, and proposals from the object's place in the previous frame."""

import torch
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from eosvos.config import models as config

JITTER = 0.1
"""How far a side of a jittered box moves outwards at most, in widths or heights of the box."""


def tight_boxes(objects: Tensor) -> Tensor:
    """Return the boxes float [B, 4] around the true pixels of `objects` bool [B, H, W].

    A box is (xmin, ymin, xmax, ymax) in pixels, the maxima exclusive; without any, it is no box.
    """
    sides = []
    for axis in (1, 2):
        occupied = objects.any(dim=axis)
        length = occupied.shape[1]
        flags = occupied.to(torch.uint8)
        sides.append((flags.argmax(dim=1), length - flags.flip(1).argmax(dim=1)))
    (xmin, xmax), (ymin, ymax) = sides
    return torch.stack((xmin, ymin, xmax, ymax), dim=1).float()


def jittered_boxes(box: Tensor, count: int, size: tuple[int, int]) -> Tensor:
    """Return `count` copies [count, 4] of `box` [4], each of their sides moved outwards (method, section 3).

    The moves are independent and uniform in [0, 0.1) of the box's width or height, clamped to the image of
    `size` (H, W). Draws 4 * count numbers from the global CPU generator, side by side.
    """
    reach = JITTER * (box[2:] - box[:2])
    moves = torch.stack([torch.rand(count) for _ in range(4)], dim=1)
    moves = moves.to(box.device, box.dtype, non_blocking=True)
    return clip_boxes_to_image(box + torch.cat((-reach, reach)) * moves, size)


def add_prior_proposals(
    proposals: Tensor,
    prior: Tensor | None,
    size: tuple[int, int],
    settings: config.MaskRCNN,
    redetect: bool | Tensor = False,
) -> Tensor:
    """Return the boxes [P, 4] to classify, from the RPN's `proposals` [N, 4], best first, and the prior [4].

    All boxes are in pixels of the network's image of `size` (H, W). Without a prior, or with
    proposals=none, these are the RPN's. `replace`: `prior_proposals` jittered copies of the prior; `extend`,
    and whenever `redetect`: the `prior_proposals` // 2 best of the RPN's, and copies that make up the rest.
    """
    if prior is None:
        return proposals
    mode, count = settings.proposals, settings.prior_proposals
    # To read `redetect` is to wait for the device.
    if mode != "extend" and redetect:
        mode = "extend"
    if mode == "none":
        return proposals
    if mode == "replace":
        return jittered_boxes(prior, count, size)
    best = proposals[: count // 2]
    return torch.cat((best, jittered_boxes(prior, count - count // 2, size)))
