"""The interface of a video: frames, and masks for some of them."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import deque
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eosvos.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence, Set

    from numpy.typing import NDArray
    from torch import Tensor

IGNORE = 255
"""The value of a pixel of a mask that is neither object nor background."""


class VideoSequence(ABC):
    """A video with masks for some of its frames, read lazily; picklable.

    `name`; `frame_names`, in order.
    """

    name: str
    frame_names: tuple[str, ...]
    still: bool = False
    """Whether it is a picture, not a video: one frame, whose tasks are warped copies of it."""
    server_folder: str | None = None
    """The folder of its masks in the zip that the data set's evaluation server takes; None without one."""

    @property
    def result_names(self) -> tuple[str, ...]:
        """Names of the frames whose masks are results: of all, unless the data set asks for fewer."""
        return self.frame_names

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, the same for all frames."""

    @property
    def num_frames(self) -> int:
        """Return the number of frames."""
        return len(self.frame_names)

    @property
    def frame_numbers(self) -> tuple[int, ...]:
        """Times of the frames, in frames: the numbers that are their names; indices if a name is none."""
        if all(name.isdecimal() for name in self.frame_names):
            return tuple(map(int, self.frame_names))
        return tuple(range(self.num_frames))

    sound: Path | None = None
    """The file whose sound is that of the video."""

    @property
    def frame_times(self) -> tuple[Fraction, ...]:
        """When each frame is shown, in seconds: 25 in a second, unless the video says otherwise."""
        return tuple(Fraction(t, 25) for t in range(self.num_frames))

    @property
    @abstractmethod
    def annotated_frames(self) -> tuple[int, ...]:
        """Indices of the frames that have a mask, ascending."""

    @abstractmethod
    def image(self, t: int) -> Tensor:
        """Read frame t: RGB, uint8 [3, H, W] of `size`, on the CPU."""

    @abstractmethod
    def mask(self, t: int) -> Tensor | None:
        """Read the mask of frame t: uint8 [H, W] of `size`, on the CPU; None if it has none.

        Its values are 0, object ids and 255 (ignore).
        """

    def close(self) -> None:  # noqa: B027  # most have nothing open
        """Let go of what is kept open between frames; what is read next opens it again."""

    def checked_image(self, t: int) -> Tensor:
        """Return `image(t)`, checked; raises UserError if its type, shape or device is wrong."""
        return self._checked("image", t, self.image(t), (3, *self.size))

    def checked_mask(self, t: int) -> Tensor | None:
        """Return `mask(t)`, checked; raises UserError if its type, shape or device is wrong."""
        mask = self.mask(t)
        return None if mask is None else self._checked("mask", t, mask, tuple(self.size))

    def _checked(self, method: str, t: int, value: Tensor, shape: tuple[int, ...]) -> Tensor:
        # By its name, for torch is not imported here.
        right_type = str(getattr(value, "dtype", None)) == "torch.uint8" and value.device.type == "cpu"
        if not right_type or tuple(value.shape) != shape:
            raise UserError(
                f"sequence {self.name}: {method}({t}) must return a tensor, uint8 {list(shape)} on the CPU, "
                f"not {describe(value)}"
            )
        return value

    def visible_objects(self, t: int) -> list[int]:
        """Return the ids of the objects that the mask of frame t shows, ascending; none without a mask."""
        return visible_objects(self.checked_mask(t))

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders, or single files, that the video is read from; eosvos writes nothing there."""
        return ()

    def fingerprint(self) -> str:
        """SHA-256 of frames and masks, hexadecimal; it does not depend on where the video is stored.

        Reads every frame and mask.
        """
        digest = hashlib.sha256()
        for t, name in enumerate(self.frame_names):
            for part in (self.checked_image(t), self.checked_mask(t)):
                digest.update(f"{name} {None if part is None else tuple(part.shape)}\n".encode())
                digest.update(b"" if part is None else part.numpy().tobytes())
        return digest.hexdigest()

    @cached_property
    def _first_frames(self) -> dict[int, int]:
        """The first annotated frame of each object that a mask read so far shows."""
        return {}

    @cached_property
    def _objects_by_frame(self) -> dict[int, list[int]]:
        """Ids of the objects that each mask read so far shows, by frame."""
        return {}

    @cached_property
    def _unread(self) -> deque[int]:
        """Annotated frames whose masks were not yet searched for objects, ascending.

        The first thing asked of a video: raises UserError if what it says of itself cannot be.
        """
        for what, (wanted, is_right) in _SAID.items():
            value = getattr(self, what, None)
            if not is_right(value):
                name = getattr(self, "name", type(self).__name__)
                raise UserError(f"sequence {name}: {what} must be {wanted}, not {value!r:.80}")
        for t in self.annotated_frames:
            if not 0 <= t < self.num_frames:
                raise UserError(
                    f"sequence {self.name}: there is no frame {t} of {self.num_frames}, as annotated"
                )
        return deque(self.annotated_frames)

    def _search(self, wanted: Set[int] | None = None) -> dict[int, int]:
        """First frames by object, after reading masks until all wanted objects are found (None: all masks).

        No mask is read for a second time.
        """
        found = self._first_frames
        while self._unread and (wanted is None or not wanted <= found.keys()):
            t = self._unread[0]
            self._objects_by_frame[t] = self.visible_objects(t)
            for object_id in self._objects_by_frame[t]:
                found.setdefault(object_id, t)
            self._unread.popleft()
        return found

    @property
    def is_searched(self) -> bool:
        """Whether all masks were read, so that every object and its first frame are known."""
        return not self._unread

    @property
    def objects_by_frame(self) -> Mapping[int, Sequence[int]]:
        """Ids of the objects that the mask of each annotated frame shows, ascending."""
        self._search()
        return self._objects_by_frame

    @cached_property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the objects that masks show, ascending, without 0 and 255."""
        return tuple(sorted(self._search()))

    @property
    def training_object_ids(self) -> tuple[int, ...]:
        """Ids of the objects to train on: object_ids, or a list that is read instead of the masks."""
        return self.object_ids

    def first_frame(self, object_id: int) -> int:
        """Return the first annotated frame that shows the object; raises UserError if none does."""
        first = self._search({object_id}).get(object_id)
        if first is None:
            raise UserError(
                f"no mask of sequence {self.name} shows object {object_id}: "
                "correct its masks, or leave the sequence out"
            )
        return first


def _is_row(value: object, kind: type) -> bool:
    """Whether a value is a tuple or list of values of a kind."""
    return isinstance(value, tuple | list) and all(isinstance(one, kind) for one in value)


_SAID: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "name": ("a text", lambda value: isinstance(value, str)),
    "frame_names": ("a tuple of texts", lambda value: _is_row(value, str)),
    "size": ("(height, width)", lambda value: _is_row(value, Integral) and len(value) == 2),
    "annotated_frames": (
        "a tuple of indices, ascending",
        lambda value: _is_row(value, Integral) and all(early < late for early, late in pairwise(value)),
    ),
}
"""What a video says of itself."""


def visible_objects(mask: Tensor | NDArray[np.uint8] | None) -> list[int]:
    """Return the ids of the objects that a mask uint8 [H, W] shows, ascending; none for None."""
    values: list[int] = [] if mask is None else np.bincount(np.ravel(mask)).nonzero()[0].tolist()
    return [value for value in values if value not in (0, IGNORE)]


def scored_frames(sequence: VideoSequence) -> tuple[int, ...]:
    """Indices of the annotated frames that count: not the last, and none whose annotation is given.

    Given are the frames where an object is first annotated. On DAVIS this leaves out the first and the last
    frame.
    """
    given = {sequence.first_frame(object_id) for object_id in sequence.object_ids}
    # Before the first object there is nothing to find.
    return tuple(
        t
        for t in sequence.annotated_frames
        if t not in given and min(given, default=t) < t < sequence.num_frames - 1
    )


def can_be_scored(sequence: VideoSequence) -> bool:
    """Whether `scored_frames` may find one, as far as is known from the masks that were read."""
    if sequence.is_searched:
        return bool(scored_frames(sequence))
    before_last = [t for t in sequence.annotated_frames if t < sequence.num_frames - 1]
    return len(before_last) > 1


def describe(value: object) -> str:
    """Say what a value is: for arrays and tensors [...] their type of numbers, shape and, if odd, device."""
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    if dtype is None or shape is None:
        return f"{type(value).__name__}"
    kind = "tensor" if str(dtype).startswith("torch.") else "array"
    device = getattr(value, "device", "cpu")
    place = "" if str(device) == "cpu" else f" on {device}"
    if (layout := str(getattr(value, "layout", "torch.strided"))) != "torch.strided":
        kind = f"{layout.removeprefix('torch.')} {kind}"
    return f"{kind} {str(dtype).removeprefix('torch.')} {list(shape)}{place}"
