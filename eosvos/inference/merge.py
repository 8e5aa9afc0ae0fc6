"""From the probabilities of several objects to one label map per frame."""

from collections.abc import Mapping

import torch
from torch import Tensor

from eosvos.models.segmenter import THRESHOLD

ANNOTATED = 2.0
"""Stands for the probability of an annotated pixel: above every predicted one."""


def merge_objects(probabilities: Mapping[int, Tensor], size: tuple[int, ...]) -> Tensor:
    """Give every pixel to its most probable object; background where none reaches one half (method, section
    7).

    probabilities: float [..., H, W] by object id, all of one `size`. Returns uint8 [..., H, W] of object ids,
    0 for the background, on the CPU. Of equally probable objects the first wins.
    """
    if not probabilities:
        return torch.zeros(size, dtype=torch.uint8)
    ids = torch.tensor([0, *probabilities], dtype=torch.uint8)
    best, channel = torch.stack(list(probabilities.values())).max(dim=0)
    return ids[(channel + 1).masked_fill(~(best >= THRESHOLD), 0).cpu()]
