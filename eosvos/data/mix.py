"""Frames with the objects of two videos: only the support mask tells which is meant (method, section 5; ours:
either one may be the task's).
"""

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from eosvos.data.augment import Frame, chance, survives

_ATTEMPTS = 10


def mix_objects(frames: list[Frame], others: list[Frame], generator: Generator) -> list[Frame]:
    """Put an object of another video before the frames of a task, or, with even chances, the task's object
    before the frames of the other video.

    others: as many frames, of any size; the result has the size of `frames`, and masks of the task's object.
    The place is drawn for each frame, so that a quarter of the task's object is seen; a frame in which it
    never is stays as it was.
    """
    own_scene = chance(0.5, generator)
    return [
        _mix(frame, _resized(other, frame[1].shape), own_scene, generator)
        for frame, other in zip(frames, others, strict=True)
    ]


def _mix(frame: Frame, other: Frame, own_scene: bool, generator: Generator) -> Frame:
    image, mask = frame
    for _ in range(_ATTEMPTS):
        if own_scene:
            mixed, covered = _paste(image, other, generator)
            seen = mask.masked_fill(covered, 0)
        else:
            mixed, covered = _paste(other[0], frame, generator)
            seen = covered.to(mask.dtype)
        if survives(mask, seen):
            return mixed, seen
    return frame


def _paste(scene: Tensor, frame: Frame, generator: Generator) -> tuple[Tensor, Tensor]:
    """Put a frame's object into an image [3, H, W], its centre anywhere; also where it is, bool [H, W]."""
    image, mask = frame
    y, x = (mask == 1).nonzero(as_tuple=True)
    result, covered = scene.clone(), torch.zeros_like(mask, dtype=torch.bool)
    if len(y):
        to_y, to_x = (
            along - (int(along.min()) + int(along.max())) // 2 + torch.randint(size, (), generator=generator)
            for along, size in zip((y, x), mask.shape, strict=True)
        )
        inside = (to_y >= 0) & (to_y < mask.shape[0]) & (to_x >= 0) & (to_x < mask.shape[1])
        y, x, to_y, to_x = (along[inside] for along in (y, x, to_y, to_x))
        result[:, to_y, to_x] = image[:, y, x]
        covered[to_y, to_x] = True
    return result, covered


def _resized(frame: Frame, size: torch.Size) -> Frame:
    image, mask = frame
    if mask.shape == size:
        return frame
    resized = interpolate(image[None], tuple(size), mode="bilinear", antialias=True)[0].clamp(0, 1)
    return resized, interpolate(mask[None, None], tuple(size), mode="nearest")[0, 0]
