"""Procedural videos: never downloaded, hard enough to need learning, a pure function of (seed, index)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from eosvos.data.sequence import VideoSequence
from eosvos.errors import UserError
from eosvos.seeding import derive_seed

if TYPE_CHECKING:
    from torch import Tensor

    from eosvos.data.scene import Image, Scene

RANGES = {
    "dev": range(1_000_000),
    "test": range(1_000_000, 2_000_000),
    "train": range(2_000_000, 3_000_000),
}
"""Indices of the videos of each part; they never meet."""

_SMALLEST_SIDE = 32


@lru_cache(maxsize=4)
def _scene(seed: int, index: int, size: tuple[int, int], objects: int) -> Scene:
    import numpy as np

    from eosvos.data.scene import Scene

    return Scene(np.random.default_rng(derive_seed("synthetic", seed, index)), size, objects)


@lru_cache(maxsize=4)
def _frame(seed: int, index: int, size: tuple[int, int], objects: int, t: int) -> tuple[Image, Image]:
    """Image and mask of a frame are asked for one after the other: paint them once."""
    return _scene(seed, index, size, objects).render(t)


class SyntheticVideo(VideoSequence):
    """Video `index` of the family `seed`: 1 to `max_objects` objects among distractors and occluders.

    Every frame is annotated, exactly, with what is visible of each object; frame 0 shows at least half of
    each. Frame t is the same whatever `num_frames`, and is painted when asked for, so memory does not grow
    with the length. `size` (H, W) in pixels, each at least 32. Raises UserError for anything else.
    """

    def __init__(
        self,
        seed: int,
        index: int,
        size: Sequence[int] = (96, 128),
        num_frames: int = 10,
        max_objects: int = 3,
    ) -> None:
        if len(size) != 2 or min(size) < _SMALLEST_SIDE or num_frames < 1 or not 1 <= max_objects <= 3:
            raise UserError(
                f"no synthetic video has size {list(size)}, {num_frames} frames, {max_objects} objects"
                f": use a size [height, width] from {_SMALLEST_SIDE} up, 1 or more frames, 1 to 3 objects"
            )
        self.name = f"synthetic-{index:07d}"
        self.frame_names = tuple(f"{t:05d}" for t in range(num_frames))
        self.num_objects = derive_seed("synthetic objects", seed, index) % max_objects + 1
        self._key = (seed, index, (size[0], size[1]), self.num_objects)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._key[2]

    @property
    def annotated_frames(self) -> tuple[int, ...]:
        """All frames."""
        return tuple(range(self.num_frames))

    @cached_property
    def object_ids(self) -> tuple[int, ...]:
        """Ids 1 to the number of objects; known without painting."""
        return tuple(range(1, self.num_objects + 1))

    def fingerprint(self) -> str:
        """SHA-256 of what the video is painted from, hexadecimal."""
        return hashlib.sha256(repr((self._key, self.num_frames)).encode()).hexdigest()

    def image(self, t: int) -> Tensor:
        """Paint frame t: RGB, uint8 [3, H, W]."""
        import torch

        return torch.from_numpy(_frame(*self._key, range(self.num_frames)[t])[0].transpose(2, 0, 1).copy())

    def mask(self, t: int) -> Tensor:
        """Paint the mask of frame t: uint8 [H, W] of object ids, 0 elsewhere."""
        import torch

        return torch.from_numpy(_frame(*self._key, range(self.num_frames)[t])[1].copy())


def synthetic_sequences(
    range_name: str,
    count: int,
    size: Sequence[int] = (96, 128),
    num_frames: int = 10,
    max_objects: int = 3,
    seed: int = 0,
) -> list[VideoSequence]:
    """Return the first `count` videos of a range: train, dev (while developing) or test (the reported table).

    Raises UserError for an unknown range or a count that it does not hold.
    """
    if range_name not in RANGES:
        raise UserError(
            f"unknown range {range_name!r} of synthetic videos: choose one of {', '.join(RANGES)}"
        )
    if not 0 <= count <= len(RANGES[range_name]):
        raise UserError(f"{count} synthetic videos cannot be had: ask for 0 to {len(RANGES[range_name])}")
    indices = RANGES[range_name][:count]
    return [SyntheticVideo(seed, index, size, num_frames, max_objects) for index in indices]


class SyntheticPool:
    """Tasks from fresh videos: entry i is one object, chosen by a hash, of video i of the training range.

    One million entries: at four tasks an iteration, no video comes again within 250,000 iterations.
    """

    def __init__(
        self, size: Sequence[int] = (96, 128), num_frames: int = 10, max_objects: int = 3, seed: int = 0
    ) -> None:
        self._settings = (tuple(size), num_frames, max_objects)
        self._seed = seed
        self[0]  # a size that cannot be is reported now

    def __len__(self) -> int:
        """Return the number of training videos."""
        return len(RANGES["train"])

    def __getitem__(self, i: int) -> tuple[VideoSequence, int]:
        """Return video i of the training range and one of its object ids."""
        video = SyntheticVideo(self._seed, RANGES["train"][i], *self._settings)
        return video, derive_seed("synthetic choice", self._seed, i) % video.num_objects + 1
