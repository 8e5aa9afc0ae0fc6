"""Procedural videos: never downloaded, hard enough to need learning, a pure function of (seed, index)."""

from __future__ import annotations

import hashlib
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from eosvos.config.data import Synthetic
from eosvos.data.sequence import VideoSequence
from eosvos.seeding import derive_seed

if TYPE_CHECKING:
    from torch import Tensor

    from eosvos.data.scene import Image, Scene

SPLITS = {
    "val": range(1_000_000),
    "test": range(1_000_000, 2_000_000),
    "train": range(2_000_000, 3_000_000),
}
"""Indices of the videos of each split; they never overlap."""


@lru_cache(maxsize=4)
def _scene(seed: int, index: int, size: tuple[int, int], objects: int) -> Scene:
    import numpy as np

    from eosvos.data.scene import Scene

    return Scene(np.random.default_rng(derive_seed("synthetic", seed, index)), size, objects)


@lru_cache(maxsize=4)
def _frame(seed: int, index: int, size: tuple[int, int], objects: int, t: int) -> tuple[Image, Image]:
    """Render image and mask of a frame; the cache serves the second of two calls, for image and mask."""
    return _scene(seed, index, size, objects).render(t)


class SyntheticVideo(VideoSequence):
    """Video `index` of the family settings.seed: 1 to max_objects objects among distractors and occluders.

    Every frame is annotated, exactly, with what is visible of each object; frame 0 shows at least half of
    each. Frame t is the same whatever num_frames, and is rendered when asked for, so memory does not grow
    with the length.
    """

    def __init__(self, index: int, settings: Synthetic) -> None:
        self.name = f"synthetic-{index:07d}"
        self.frame_names = tuple(f"{t:05d}" for t in range(settings.num_frames))
        self.num_objects = derive_seed("synthetic objects", settings.seed, index) % settings.max_objects + 1
        height, width = settings.size
        self._key = (settings.seed, index, (height, width), self.num_objects)

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
        """Ids 1 to the number of objects; known without rendering."""
        return tuple(range(1, self.num_objects + 1))

    def fingerprint(self) -> str:
        """SHA-256 of what determines the video, hexadecimal."""
        return hashlib.sha256(repr((self._key, self.num_frames)).encode()).hexdigest()

    def image(self, t: int) -> Tensor:
        """Render frame t: RGB, uint8 [3, H, W]."""
        import torch

        return torch.from_numpy(_frame(*self._key, range(self.num_frames)[t])[0].transpose(2, 0, 1).copy())

    def mask(self, t: int) -> Tensor:
        """Render the mask of frame t: uint8 [H, W] of object ids, 0 elsewhere."""
        import torch

        return torch.from_numpy(_frame(*self._key, range(self.num_frames)[t])[1].copy())


def synthetic_videos(settings: Synthetic) -> SyntheticTaskSource | list[SyntheticVideo]:
    """Return the first num_videos videos of a split; for None, a task source of all of them."""
    if settings.num_videos is None:
        return SyntheticTaskSource(settings)
    return [SyntheticVideo(index, settings) for index in SPLITS[settings.split][: settings.num_videos]]


class SyntheticTaskSource:
    """Tasks from fresh videos: entry i is one object, chosen by a hash, of video i of the split.

    One million entries: at four tasks an iteration, no video comes again within 250,000 iterations.
    """

    def __init__(self, settings: Synthetic) -> None:
        self._settings = settings

    def __len__(self) -> int:
        """Return the number of videos of the split."""
        return len(SPLITS[self._settings.split])

    def __getitem__(self, i: int) -> tuple[VideoSequence, int]:
        """Return video i of the split and one of its object ids."""
        video = SyntheticVideo(SPLITS[self._settings.split][i], self._settings)
        return video, derive_seed("synthetic choice", self._settings.seed, i) % video.num_objects + 1
