"""Your own videos: video files, and a mask for the first frame or for some."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eosvos.config.data import Video
from eosvos.data.container import BROKEN, VIDEO_SUFFIXES, Contents, contents, pictures
from eosvos.data.folder import FolderSequence, is_silhouette
from eosvos.data.layouts import FRAME_SUFFIXES, build_each, existing_folder, files_by_stem
from eosvos.data.pictures import inexact_message
from eosvos.data.split_file import select
from eosvos.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


class VideoFile(FolderSequence):
    """A video in one file, whose frames are decoded in order: to go back is to begin again at a key frame.

    path: the file. masks: mask files, by number of the frame. Frames are called 00000, 00001 ...
    """

    def __init__(self, name: str, path: Path, masks: dict[int, Path], short_side: int | None = None) -> None:
        super().__init__(name, [path], masks, short_side=short_side)
        self.path = self.sound = path
        self.frame_names = tuple(f"{t:05d}" for t in range(len(self._contents.stamps)))
        self.close()

    def close(self) -> None:
        """Let go of the decoder, with its threads and pictures."""
        self._decoded: Iterator[tuple[int, NDArray[np.uint8]]] = iter(())
        self._shown: tuple[int, NDArray[np.uint8]] | None = None
        self._next: tuple[int, NDArray[np.uint8]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what is open."""
        return self.__dict__ | {"_decoded": iter(()), "_shown": None, "_next": None}

    @cached_property
    def _contents(self) -> Contents:
        return contents(self.path)

    @property
    def stored_size(self) -> tuple[int, int]:
        """Height and width of the video as it is shown, in pixels."""
        return self._contents.size

    @property
    def defect(self) -> str | None:
        """What is wrong with the end of the file, if anything is."""
        return BROKEN % (self.path, self.num_frames) if self._contents.broken else None

    @property
    def frame_times(self) -> tuple[Fraction, ...]:
        """When each frame is shown, in seconds."""
        return tuple(stamp * self._contents.clock for stamp in self._contents.stamps)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The video file, and the mask or the folder of the masks."""
        masks = tuple(self.masks.values())
        return (self.path, *(masks if len(masks) == 1 else dict.fromkeys(path.parent for path in masks)))

    def _read_files(self) -> Iterator[Path]:
        return iter((self.path, *self.masks.values()))

    def image(self, t: int) -> Tensor:
        """Decode up to frame t: RGB, uint8 [3, H, W]; where it is broken, it is the one before."""
        import torch

        for start in (t, 0):
            # From the start, if the key frame is broken.
            if self._shown is None or t < self._shown[0]:
                self._decoded = pictures(self.path, self._contents, self.size, start)
                self._shown, self._next = next(self._decoded, None), next(self._decoded, None)
        assert self._shown is not None, "the first frame can be decoded"
        while self._next is not None and self._next[0] <= t:
            self._shown, self._next = self._next, next(self._decoded, None)
        return torch.from_numpy(self._shown[1].transpose(2, 0, 1).copy())


def video_sequences(settings: Video, defects: dict[str, str] | None = None) -> list[VideoFile]:
    """Return the videos in files, their masks checked and their objects known.

    Values of masks are as in `folder_sequences`. defects: if given, it takes the message for each video that
    cannot be listed, by name. Raises UserError for a missing file, what is no video, masks that do not fit.
    """
    path, masks = Path(settings.video), Path(settings.masks)
    if path.is_dir():
        files = _video_files(path)
        existing_folder(
            masks, "set masks to a folder that holds VIDEO.png, or a folder VIDEO of masks, for each"
        )
    else:
        files = {path.stem: path}

    def sequence(name: str) -> VideoFile:
        return _sequence(name, files[name], _masks_of(name, masks) if path.is_dir() else masks, settings)

    return build_each(sequence, select(settings, files, "video", str(path)), defects)


def _video_files(folder: Path) -> dict[str, Path]:
    found = files_by_stem(folder, VIDEO_SUFFIXES)
    if not found:
        pictures_there = files_by_stem(folder, FRAME_SUFFIXES)
        remedy = (
            f"a folder of frames is dataset=folder dataset.images={folder}"
            if pictures_there
            else f"{', '.join(sorted(VIDEO_SUFFIXES))} are read"
        )
        raise UserError(f"the folder {folder} holds no video: {remedy}")
    return found


def _masks_of(name: str, masks: Path) -> Path:
    """The mask, or the folder of masks, of one of several videos."""
    single = masks / f"{name}.png"
    return single if single.is_file() else masks / name


def _sequence(name: str, path: Path, masks: Path, settings: Video) -> VideoFile:
    found = _masks(masks, settings.mask_frame, name)
    sequence = VideoFile(name, path, found, settings.short_side)
    for t, file in found.items():
        if t >= sequence.num_frames:
            last = sequence.num_frames - 1
            raise UserError(
                f"the mask {file} is of frame {t}, but the last frame of {path} is {last}: name it, or set "
                f"mask_frame, from 0 to {last}"
            )
    sequence.white_is_object = is_silhouette(sequence.masks.values())
    # All masks are read, and so checked.
    if not sequence.object_ids:
        raise UserError(f"no mask of {path} shows an object: correct {found[min(found)]}")
    return sequence


def _masks(masks: Path, mask_frame: int | None, name: str) -> dict[int, Path]:
    """Mask files by number of their frame; name: of the video, which may be a number, too."""
    if masks.is_file():
        if masks.suffix.lower() != ".png":
            raise UserError(inexact_message(masks))
        by_name = int(masks.stem) if masks.stem.isdecimal() and masks.stem != name else 0
        return {by_name if mask_frame is None else mask_frame: masks}
    existing_folder(
        masks, "set masks to a PNG mask, or to a folder of masks named by the numbers of their frames"
    )
    if mask_frame is not None:
        raise UserError(f"mask_frame={mask_frame} is of a single mask, but {masks} is a folder: leave it out")
    found = files_by_stem(masks, [".png"])
    if not found:
        raise UserError(f"the folder {masks} holds no PNG mask: add one named by the number of its frame")
    by_number: dict[int, Path] = {}
    for stem, file in found.items():
        if not stem.isdecimal():
            raise UserError(
                f"the mask {file} is not named by the number of its frame, as 00000.png: rename it"
            )
        twin = by_number.setdefault(int(stem), file)
        if twin is not file:
            raise UserError(f"{twin} and {file.name} beside it are both of frame {int(stem)}: take one away")
    return by_number
