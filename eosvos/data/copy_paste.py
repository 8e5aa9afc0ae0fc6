"""Copy-paste augmentation: frames that show objects of two videos (method, section 5).

Only the support mask tells which of them is the task's; either one may be.
"""

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from eosvos.data.augment import Frame, bernoulli, object_remains
from eosvos.data.sequence import IGNORE

_ATTEMPTS = 10


def copy_paste_frames(
    frames: list[Frame], others: list[Frame], generator: Generator, into_task: bool | None = None
) -> list[Frame]:
    """Paste an object of another video into the frames of a task (into_task), or the other way round.

    None: both are equally likely; the choice is the same for all frames of a task. others: as many frames,
    of any size; the result has the size of `frames`, and masks of the task's object. The position is drawn
    for each frame, until at least a quarter of the task's object is visible; after ten attempts the frame
    stays the same.
    """
    if into_task is None:
        into_task = bernoulli(0.5, generator)
    return [
        _paste_one(frame, _resized(other, frame[1].shape), into_task, generator)
        for frame, other in zip(frames, others, strict=True)
    ]


def add_objects(frames: list[Frame], others: list[Frame], generator: Generator) -> list[Frame]:
    """Paste an object of another video into frames whose masks hold the ids of all objects, with a new id.

    frames, others: see `copy_paste_frames`. Where it covers all that a frame shows, the frame stays the same.
    """
    return [
        _add_one(frame, _resized(other, frame[1].shape), generator)
        for frame, other in zip(frames, others, strict=True)
    ]


def _add_one(frame: Frame, other: Frame, generator: Generator) -> Frame:
    image, labels = frame
    pasted, covered = _paste(image, other, generator)
    if not object_remains(labels, labels.masked_fill(covered, 0)):
        return frame
    new = min(set(range(1, IGNORE)) - set(labels.unique().tolist()))
    return pasted, labels.masked_fill(covered, new)


def _paste_one(frame: Frame, other: Frame, into_task: bool, generator: Generator) -> Frame:
    image, mask = frame
    for _ in range(_ATTEMPTS):
        if into_task:
            pasted, covered = _paste(image, other, generator)
            seen = mask.masked_fill(covered, 0)
        else:
            pasted, covered = _paste(other[0], frame, generator)
            seen = covered.to(mask.dtype)
        if object_remains(mask, seen):
            return pasted, seen
    return frame


def _paste(scene: Tensor, frame: Frame, generator: Generator) -> tuple[Tensor, Tensor]:
    """Paste a frame's object into an image [3, H, W], its centre anywhere; also say where, bool [H, W]."""
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
