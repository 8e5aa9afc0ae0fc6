"""Your own videos: folders of frames, and a mask for the first frame or for some."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np

from eosvos.config.data import Folder
from eosvos.data.defects import check_headers
from eosvos.data.files import FileSequence
from eosvos.data.layouts import (
    FRAME_SUFFIXES,
    build_each,
    existing_folder,
    files_by_stem,
    no_frames_message,
    select_names,
    subfolders,
)
from eosvos.data.pictures import inexact_message, read_header, read_labels
from eosvos.data.sequence import IGNORE, VideoSequence, visible_objects
from eosvos.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_REMEDY = "set images to a folder of frames, or of folders of frames"


class FolderSequence(FileSequence):
    """A video of a folder. `white_is_object`: 255 is object 1, not ignored, in all of its masks."""

    white_is_object: bool = False

    def read_mask(self, path: Path) -> NDArray[np.uint8]:
        """Decode a mask file of this video: ids uint8 [h, w], in the file's size."""
        labels = super().read_mask(path)
        return np.where(labels == IGNORE, np.uint8(1), labels) if self.white_is_object else labels

    def _read_settings(self) -> tuple[Any, ...]:
        return *super()._read_settings(), self.white_is_object


def folder_sequences(settings: Folder, defects: dict[str, str] | None = None) -> list[FolderSequence]:
    """Return the videos of a folder, their headers checked and their objects known.

    A single mask file belongs to the frame of its name, else to the first frame. A file that is a mask is no
    frame. Values of palette and grey masks are object ids, 255 is ignored; but where the first mask is grey
    and of 0 and 255 alone, 255 is object 1 in all masks of its video.
    defects: if given, it takes the message for each video that cannot be listed, by name, and no file but
    each first mask is opened.
    Raises UserError for a missing folder, an unknown name, or the first defect of a file; of masks, which
    are made by hand, also those that only decoding shows.
    """
    top, mask_top = _image_folder(settings.images), _mask_path(settings.masks)
    single = bool(_frames(top, mask_top))
    # The name of . or .. is that of the folder.
    own_name = Path(os.path.abspath(top)).name
    names = select_names(settings.sequences, [own_name] if single else subfolders(top), "sequence", str(top))
    if not names:
        raise UserError(no_frames_message(top, "neither frames nor folders", "set images"))
    if mask_top.is_file() and not single:
        raise UserError(
            f"the mask {mask_top} belongs to one video, but {top} is a folder of videos: set "
            f"images to one of them, {top / names[0]}, or masks to a folder with a folder of masks for each"
        )

    def sequence(name: str) -> FolderSequence:
        paths = (top, mask_top) if single else (top / name, mask_top / name)
        made = _sequence(name, *paths, settings)
        made.folder_per_video = not single and settings.sequences is None
        return made

    found = build_each(sequence, names, defects)
    if defects is None:
        check_headers(found)
        for video in found:
            # Remembered, so that masks are not searched again.
            _ = video.object_ids
    return found


def evaluation_only_masks_message(videos: Sequence[VideoSequence]) -> str | None:
    """Say which masks of folders' videos show an object that is already followed: they are for scores alone.

    Returns None if there is no such mask.
    """
    later = [
        video.masks[t]
        for video in videos
        if isinstance(video, FolderSequence)
        for t in video.annotated_frames
        if any(video.first_frame(i) < t for i in set(video.object_ids).intersection(video.visible_objects(t)))
    ]
    if not later:
        return None
    more = f" and {len(later) - 1} more" * (len(later) > 1)
    return (
        "masks of objects that are already followed are compared with what is found and correct nothing: "
        f"{later[0]}{more}"
    )


def _image_folder(images: str) -> Path:
    path = Path(images).expanduser()
    if path.suffix.lower() in FRAME_SUFFIXES:
        remedy = f"{_REMEDY}, such as {path.absolute().parent}"
    else:
        command = f"ffmpeg -i {quote(str(path))} -q:v 2 frames/%05d.jpg"
        remedy = f"make a folder of its frames, with mkdir frames && {command}"
    return existing_folder(path, _REMEDY, remedy)


def _mask_path(masks: str) -> Path:
    """The existing mask or folder of masks."""
    path = Path(masks).expanduser()
    if not os.path.isfile(path):
        return existing_folder(path, "set masks to a mask, or to a folder of masks named as their frames")
    if path.suffix.lower() != ".png":
        raise UserError(inexact_message(path))
    return path


def _sequence(name: str, images: Path, masks: Path, settings: Folder) -> FolderSequence:
    frames = _frames(images, masks)
    if not frames:
        raise UserError(no_frames_message(images, "no frames", "add images to it, or leave it out"))
    found = _masks(frames, masks)
    index = {stem: t for t, stem in enumerate(frames)}
    used = select_names(settings.annotated, found, "mask for frame", str(masks))
    chosen = {index[stem]: found[stem] for stem in used}
    sequence = FolderSequence(name, list(frames.values()), chosen, False, settings.short_side)
    sequence.white_is_object = bool(chosen) and _is_silhouette(chosen[min(chosen)])
    return sequence


def _frames(images: Path, masks: Path) -> dict[str, Path]:
    """Image files that are no masks, by name."""
    if masks.resolve() == images.resolve():
        return files_by_stem(images, FRAME_SUFFIXES - {".png"})
    return files_by_stem(images, without=masks)


def _masks(frames: dict[str, Path], masks: Path) -> dict[str, Path]:
    """Mask files by name of their frame."""
    if masks.is_file():
        return {masks.stem if masks.stem in frames else next(iter(frames)): masks}
    found = files_by_stem(existing_folder(masks, "add masks for this sequence, or leave it out"), [".png"])
    images = next(iter(frames.values())).parent
    for stem in found:
        select_names([stem], frames, f"the mask {found[stem]} has no frame:", str(images))
    if masks.resolve() != images.resolve():
        for stem, path in files_by_stem(masks, FRAME_SUFFIXES - {".png"}).items():
            if stem in frames and stem not in found:
                raise UserError(inexact_message(path))
    return found


def _is_silhouette(first: Path) -> bool:
    """Whether the first mask is grey, and white on black."""
    if read_header(first)[1] != "L":
        return False
    labels = read_labels(first)
    return bool((labels == IGNORE).any()) and not visible_objects(labels)
