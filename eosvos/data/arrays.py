"""Videos in memory: frames and masks that are arrays or tensors already."""

import operator
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eosvos.data.sequence import IGNORE, VideoSequence, describe
from eosvos.errors import UserError

Array = NDArray[np.generic] | Tensor

FRAMES = "frames must be [T, H, W, 3] or [T, 3, H, W], or a list of T such frames, uint8 or float in 0..1"
IMAGE = "image must be [H, W, 3] or [3, H, W], uint8 or float in 0..1"
MASK = "mask must be [H, W] of whole numbers, 0 for background, 1 to 254 for objects, 255 for what to ignore"


class ArraySequence(VideoSequence):
    """A video whose frames, and masks of some of them, are numpy arrays or tensors.

    frames: RGB, uint8 or float in 0..1, [T, H, W, 3] or [T, 3, H, W], or a list of T frames of one size; the
    last axis is taken for the colours if there are 3, else the one before height. mask: whole numbers or bool
    [H, W] of the first frame, or a dict of such masks by index of frame: 0 is background, 1 to 254 are
    objects, 255 is to be ignored. The arrays are not copied. Raises UserError for anything else, and if no
    mask shows an object.
    """

    def __init__(
        self, frames: Array | Iterable[Array], mask: Array | Mapping[int, Array], name: str = "frames"
    ) -> None:
        self.name = name
        self._frames = _frames(frames)
        self.frame_names = tuple(f"{t:05d}" for t in range(len(self._frames)))
        masks = mask if isinstance(mask, Mapping) else {0: mask}
        self._masks = {self._index(t): mask_tensor(masks[t], self.size) for t in masks}
        if not self.object_ids:
            raise UserError(f"{MASK}; no mask given shows an object")

    def _index(self, t: int) -> int:
        try:
            index = operator.index(t)
        except TypeError:
            index = -1
        if not 0 <= index < self.num_frames:
            raise UserError(f"mask has the key {t!r}: it must be an index of the {self.num_frames} frames")
        return index

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self._frames[0].shape[:2]
        return height, width

    @property
    def annotated_frames(self) -> tuple[int, ...]:
        """Indices of the frames that have a mask, ascending."""
        return tuple(sorted(self._masks))

    def image(self, t: int) -> Tensor:
        """Return frame t: RGB, uint8 [3, H, W]; of floats, the nearest of 256 values."""
        return _tensor(self._frames[t])

    def mask(self, t: int) -> Tensor | None:
        """Return the mask of frame t, uint8 [H, W]; None if it has none."""
        return self._masks.get(t)


def image_tensor(image: Array) -> Tensor:
    """An image, RGB, uint8 or float in 0..1, [H, W, 3] or [3, H, W], as uint8 [3, H, W] on the CPU.

    Raises UserError for what it cannot be.
    """
    return _tensor(_frame(image, image, IMAGE))


def mask_tensor(mask: Array, size: tuple[int, int]) -> Tensor:
    """A mask of whole numbers or bool [H, W] as uint8 on the CPU; raises UserError for what it cannot be."""
    array = _numpy(mask)
    if array is None or array.dtype.kind not in "bui":
        raise UserError(f"{MASK}, not {describe(mask)}")
    if array.shape != size:
        raise UserError(f"{MASK}, of the frames' size {list(size)}, not {describe(mask)}")
    if array.min() < 0 or array.max() > IGNORE:
        raise UserError(f"{MASK}, not values from {array.min()} to {array.max()}")
    return torch.from_numpy(array.astype(np.uint8, order="C"))


def _tensor(frame: NDArray[np.generic]) -> Tensor:
    """A frame uint8 or float [H, W, 3] as uint8 [3, H, W]; of floats, the nearest of 256 values."""
    if frame.dtype != np.uint8:
        frame = np.rint(frame.astype(np.float32) * 255)
    return torch.from_numpy(frame.transpose(2, 0, 1).astype(np.uint8, order="C"))


def _frames(frames: Array | Iterable[Array]) -> list[NDArray[np.generic]]:
    """The frames as arrays uint8 or float [H, W, 3]; raises UserError for what they cannot be."""
    single = isinstance(frames, str | bytes | Mapping) or getattr(frames, "shape", None) == ()
    if single or not isinstance(frames, Iterable):
        raise UserError(f"{FRAMES}, not {describe(frames)}")
    given = list(frames)
    if not given:
        raise UserError(f"{FRAMES}; there is none")
    whole = isinstance(frames, np.ndarray | Tensor)
    found = [_frame(frame, frames if whole else frame, FRAMES) for frame in given]
    for t, frame in enumerate(found):
        if frame.shape != found[0].shape:
            sizes = " and ".join("x".join(map(str, one.shape[:2])) for one in (found[0], frame))
            raise UserError(f"frames must be of one size: frames 0 and {t} are {sizes}")
    return found


def _frame(frame: Array, given: object, wanted: str) -> NDArray[np.generic]:
    array = _numpy(frame)
    if array is None or array.ndim != 3 or 3 not in (array.shape[0], array.shape[2]) or not array.size:
        raise UserError(f"{wanted}, not {describe(given)}")
    if array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not 0 <= low <= high <= 1:
            raise UserError(f"{wanted}, not {describe(given)} with values from {low:g} to {high:g}")
    elif array.dtype != np.uint8:
        raise UserError(f"{wanted}, not {describe(given)}")
    return array if array.shape[2] == 3 else array.transpose(1, 2, 0)


def _numpy(value: object) -> NDArray[np.generic] | None:
    """An array or a tensor [...], from wherever it is, as an array; None for anything else."""
    if isinstance(value, Tensor):
        try:
            value = value.detach().cpu()
            return (value.float() if value.is_floating_point() else value).numpy()
        except (TypeError, RuntimeError):
            # Sparse, quantised, or without values.
            return None
    return value if isinstance(value, np.ndarray) else None
