"""Where a detector looks: boxes of masks, and proposals from the object's place in the previous frame."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

PROPOSAL_MODES = ("extend", "replace", "none")

JITTER = 0.1
"""How far a side of a jittered box moves outwards at most, in widths or heights of the box."""


def tight_boxes(objects: Tensor) -> Tensor:
    """Return the boxes float [B, 4] around the true pixels of `objects` bool [B, H, W].

    A box is (xmin, ymin, xmax, ymax) in pixels, the maxima exclusive. Raises ValueError if one of the masks
    is empty.
    """
    sides = []
    for axis in (1, 2):
        occupied = objects.any(dim=axis)
        if not occupied.any(dim=1).all():
            empty = int((~occupied.any(dim=1)).nonzero()[0])
            raise ValueError(f"mask {empty} of {len(objects)} shows no object")
        length = occupied.shape[1]
        flags = occupied.to(torch.uint8)
        sides.append((flags.argmax(dim=1), length - flags.flip(1).argmax(dim=1)))
    (xmin, xmax), (ymin, ymax) = sides
    return torch.stack((xmin, ymin, xmax, ymax), dim=1).float()


def jittered(box: Tensor, count: int, size: tuple[int, int]) -> Tensor:
    """Return `count` copies [count, 4] of `box` [4], each of their sides moved outwards (method section 3).

    The moves are independent and uniform in [0, 0.1) of the box's width or height, clamped to the image of
    `size` (H, W). Draws 4 * count numbers from the global CPU generator, side by side.
    """
    extent = (box[2:] - box[:2]).repeat(2)
    moves = torch.stack([torch.rand(count) for _ in range(4)], dim=1).to(box)
    outwards = box.new_tensor((-JITTER, -JITTER, JITTER, JITTER))
    return clip_boxes_to_image(box + outwards * extent * moves, size)


@dataclass(frozen=True)
class PriorProposals:
    """How proposals come from a prior.

    `extend`: the `count` // 2 best of the region proposal network and as many jittered copies of the prior
    as make up `count`; `replace`: `count` jittered copies alone; `none`: the prior is not looked at.
    """

    mode: str
    count: int

    def __call__(
        self, proposals: Tensor, prior: Tensor | None, size: tuple[int, int], search: bool
    ) -> Tensor:
        """Return the boxes [P, 4] to look at, from RPN `proposals` [N, 4], best first, and the prior [4].

        All in pixels of the network's image of `size` (H, W). Without a prior these are the `proposals`;
        with `search` the mode is `extend`.
        """
        mode = "extend" if search else self.mode
        if prior is None or mode == "none":
            return proposals
        if mode == "replace":
            return jittered(prior, self.count, size)
        best = proposals[: self.count // 2]
        return torch.cat((best, jittered(prior, self.count - self.count // 2, size)))
