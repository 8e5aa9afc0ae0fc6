"""A video made of arrays, for tests of what is done with videos."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from eosvos.data.sequence import VideoSequence


class ArraySequence(VideoSequence):
    """Masks [H, W] (None: not annotated) held in memory, over grey frames that get lighter."""

    def __init__(self, masks: list[np.ndarray | None], name: str = "clip") -> None:
        self.masks = masks
        self.name = name
        self.frame_names = tuple(f"{t:05d}" for t in range(len(masks)))

    @property
    def size(self) -> tuple[int, int]:
        return next(mask.shape for mask in self.masks if mask is not None)

    @property
    def annotated_frames(self) -> tuple[int, ...]:
        return tuple(t for t, mask in enumerate(self.masks) if mask is not None)

    def image(self, t: int) -> Tensor:
        return torch.full((3, *self.size), 40 + t, dtype=torch.uint8)

    def mask(self, t: int) -> Tensor | None:
        mask = self.masks[t]
        return None if mask is None else torch.from_numpy(mask.astype(np.uint8))


@pytest.fixture
def make_sequence() -> Callable[..., ArraySequence]:
    return ArraySequence


@pytest.fixture
def two_squares() -> ArraySequence:
    """Six frames of 40x60 pixels: object 1 moves to the right, object 2 stays."""
    masks = []
    for t in range(6):
        mask = np.zeros((40, 60), np.uint8)
        mask[5:15, 4 + 3 * t : 14 + 3 * t] = 1
        mask[20:35, 30:50] = 2
        masks.append(mask)
    return ArraySequence(masks, "squares")
