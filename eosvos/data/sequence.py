"""The one view of a video that everything else has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

IGNORE = 255
"""The value of a pixel of a mask that is neither object nor background."""


class VideoSequence(ABC):
    """A video with masks for some of its frames, read lazily; picklable.

    `name`; `frame_names`, in order.
    """

    name: str
    frame_names: tuple[str, ...]

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, the same for all frames."""

    @property
    def num_frames(self) -> int:
        """Return the number of frames."""
        return len(self.frame_names)

    @property
    @abstractmethod
    def annotated_frames(self) -> tuple[int, ...]:
        """Indices of the frames that have a mask, ascending."""

    @abstractmethod
    def image(self, t: int) -> Tensor:
        """Read frame t: RGB, uint8 [3, H, W]."""

    @abstractmethod
    def mask(self, t: int) -> Tensor | None:
        """Read the mask of frame t, uint8 [H, W] of 0, object ids and 255 (ignore); None if it has none."""

    @cached_property
    def _showing(self) -> dict[int, tuple[int, ...]]:
        """The annotated frames that show each object; reads every mask once."""
        showing: dict[int, tuple[int, ...]] = {}
        for t in self.annotated_frames:
            for object_id in visible_objects(self.mask(t)):
                showing[object_id] = (*showing.get(object_id, ()), t)
        return showing

    @cached_property
    def _first_frames(self) -> dict[int, int]:
        return {}

    @cached_property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the annotated objects, ascending, without 0 and 255."""
        return tuple(sorted(self._showing))

    def first_frame(self, object_id: int) -> int:
        """Return the first annotated frame that shows the object; raises KeyError if none does."""
        if object_id not in self._first_frames:
            shown = (t for t in self.annotated_frames if object_id in visible_objects(self.mask(t)))
            first = next(shown, None)
            if first is None:
                raise KeyError(f"no annotated frame of {self.name} shows object {object_id}")
            self._first_frames[object_id] = first
        return self._first_frames[object_id]

    def frames_showing(self, object_id: int) -> tuple[int, ...]:
        """Return all annotated frames that show the object (reads every mask once); empty if none does."""
        return self._showing.get(object_id, ())


def visible_objects(mask: Tensor | None) -> list[int]:
    """Return the ids of the objects that a mask uint8 [H, W] shows, ascending; none for None."""
    values: list[int] = [] if mask is None else mask.flatten().bincount().nonzero().flatten().tolist()
    return [value for value in values if value not in (0, IGNORE)]
