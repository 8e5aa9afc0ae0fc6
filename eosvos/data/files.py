"""Sequences of image files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from eosvos.data.pictures import naming_broken_file, read_header, read_image, read_labels
from eosvos.data.sequence import VideoSequence, visible_objects
from eosvos.digest import file_digest
from eosvos.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


class FileSequence(VideoSequence):
    """A video of one image file a frame, and a mask file for some frames.

    frames: image files, in order; their stems are the names of the frames. masks: mask files, by index of the
    frame. merge_objects: any pixel of a mask that is not black is object 1, and none is ignored. short_side:
    shorter side in pixels to which larger frames and masks are reduced when read. No file is opened before
    it is used.

    `missing_files`: files that should be there, but that a listing of the folders does not hold.
    `all_objects_in_first_mask`: whether the first mask shows every object. `lists_no_object`: whether a list
    says that no mask shows one, so that training leaves it out. `listed_objects`: all that there are, if a
    list says it: others in masks do not count. `folder_per_video`: whether its folders were
    found in a folder of such folders, one for each video.
    """

    missing_files: Sequence[Path] = ()
    all_objects_in_first_mask: bool = False
    lists_no_object: bool = False
    listed_objects: frozenset[int] | None = None
    folder_per_video: bool = False

    def __init__(
        self,
        name: str,
        frames: Sequence[Path],
        masks: Mapping[int, Path],
        merge_objects: bool = False,
        short_side: int | None = None,
    ) -> None:
        self.name = name
        self.frames = tuple(frames)
        self.masks = dict(sorted(masks.items()))
        self.merge_objects = merge_objects
        self.frame_names = tuple(path.stem for path in self.frames)
        self._short_side = short_side

    @property
    def annotated_frames(self) -> tuple[int, ...]:
        """Indices of the frames that have a mask, ascending."""
        return tuple(self.masks)

    @cached_property
    def stored_size(self) -> tuple[int, int]:
        """Height and width of the files, in pixels; raises UserError if the first frame cannot be opened."""
        return read_header(self.frames[0])[0]

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width of frames and masks as they are read, in pixels."""
        height, width = self.stored_size
        scale = min(1.0, (self._short_side or np.inf) / min(height, width))
        return round(height * scale), round(width * scale)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of the frames and of the masks, and the folders above them if folder_per_video.

        A single mask file is listed itself, not its folder, which may hold anything.
        """
        masks = [*self.masks.values()]
        read = [path.parent for path in self.frames] + [path.parent for path in masks if len(masks) > 1]
        above = [path.parent for path in read] if self.folder_per_video else []
        return tuple(dict.fromkeys(read + above + masks * (len(masks) == 1)))

    def fingerprint(self) -> str:
        """SHA-256 of the names of the frames, of their files and the masks', and of how they are read.

        Raises UserError for a missing file.
        """
        digest = hashlib.sha256(repr(self._read_settings()).encode())
        for file in self._read_files():
            with naming_broken_file(file):
                digest.update(file_digest(file))
        return digest.hexdigest()

    def _read_files(self) -> Iterator[Path]:
        """The files of the frames, each with that of its mask, in a fixed order."""
        return (file for t, path in enumerate(self.frames) for file in (path, self.masks.get(t)) if file)

    def _read_settings(self) -> tuple[Any, ...]:
        """The names and settings that, with the content of the files, determine what is read."""
        return self.frame_names, self.annotated_frames, self.merge_objects, self._short_side

    def id_defects(self, shown: Mapping[int, Path]) -> Iterator[str]:
        """Say, a sentence each, which objects are listed but not shown, or shown but not listed.

        shown: the first mask file that shows each object.
        """
        return iter(())

    def image(self, t: int) -> Tensor:
        """Read frame t: RGB, uint8 [3, H, W]; raises UserError if it is broken or has another size."""
        import torch

        path = self.frames[t]
        pixels = self._resize(path, self.read_picture(path), Image.Resampling.BOX)
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy())

    def mask(self, t: int) -> Tensor | None:
        """Read the mask of frame t, uint8 [H, W], or None; raises UserError if it is broken or misfits."""
        import torch

        labels = self._labels(t)
        return None if labels is None else torch.from_numpy(labels.copy())

    def visible_objects(self, t: int) -> list[int]:
        """Return the ids of the objects that the mask of frame t shows, ascending; takes no torch."""
        return visible_objects(self._labels(t))

    def read_picture(self, path: Path) -> NDArray[np.uint8]:
        """Decode an image file of this video: RGB, uint8 [h, w, 3], in the file's size."""
        return read_image(path)

    def read_mask(self, path: Path) -> NDArray[np.uint8]:
        """Decode a mask file of this video: ids uint8 [h, w], in the file's size."""
        return read_labels(path, self.merge_objects)

    def _labels(self, t: int) -> NDArray[np.uint8] | None:
        """The mask of frame t, [H, W]."""
        path = self.masks.get(range(self.num_frames)[t])
        return None if path is None else self._resize(path, self.read_mask(path), Image.Resampling.NEAREST)

    def _resize(
        self, path: Path, pixels: NDArray[np.uint8], resampling: Image.Resampling
    ) -> NDArray[np.uint8]:
        """Bring pixels [h, w, ...] of a file to `size`."""
        if pixels.shape[:2] != self.stored_size:
            raise UserError(size_mismatch_message(path, pixels.shape[:2], self.frames[0], self.stored_size))
        if self.size == self.stored_size:
            return pixels
        return np.asarray(Image.fromarray(pixels).resize(self.size[::-1], resampling))


def size_mismatch_message(path: Path, size: tuple[int, ...], other: Path, other_size: tuple[int, ...]) -> str:
    """Say that the (height, width) of one file is not that of another."""
    return (
        f"{path} is {size[1]}x{size[0]}, but {other} is {other_size[1]}x{other_size[0]} (width x height): "
        "make it the same size, or leave it out"
    )
