"""Your own videos: folders of frames, and a mask for the first frame or for some."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np

from eosvos.data.checks import sound
from eosvos.data.files import FileSequence
from eosvos.data.layouts import FRAME_SUFFIXES, choose, files, folder, list_each, no_frames, subfolders
from eosvos.data.pictures import read_header, read_labels
from eosvos.data.sequence import IGNORE, VideoSequence, visible_objects
from eosvos.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NO_FOLDER = "set dataset.images to a folder of frames, or of folders of frames"


class FolderSequence(FileSequence):
    """A video of a folder. `white`: 255 is object 1, not ignored, in all of its masks."""

    white: bool = False

    def read_mask(self, path: Path) -> NDArray[np.uint8]:
        """Decode a mask file of this video: ids uint8 [h, w], in the file's size."""
        labels = super().read_mask(path)
        return np.where(labels == IGNORE, np.uint8(1), labels) if self.white else labels

    def _reading(self) -> tuple[Any, ...]:
        return *super()._reading(), self.white


def folder_sequences(
    images: str,
    masks: str,
    annotated: Sequence[str] | None = None,
    sequences: Sequence[str] | None = None,
    short_side: int | None = None,
) -> list[VideoSequence]:
    """Return the videos of a folder, their headers checked.

    images: a folder of frames, or of one such folder a video. masks: a folder of PNG masks named as their
    frames (or of such folders), or one PNG: the mask of the frame of its name, else of the first frame.
    A file that is a mask is no frame. Values of palette and grey masks are object ids, 255 is ignored; but
    where the first mask is grey and of 0 and 255 alone, 255 is object 1 in all masks of its video.
    annotated: names of the frames whose masks are used, None for all. sequences: names of some videos.
    short_side: pixels, see FileSequence.
    Raises UserError for a missing folder, an unknown name, or the first defect of a file; of masks, which
    are made by hand, also those that only decoding shows.
    """
    videos = sound(list_folder(images, masks, annotated, sequences, short_side))
    for video in videos:
        # Remembered, so that no mask has to be searched again.
        _ = video.object_ids
    return [*videos]


def comparing_masks(videos: Sequence[VideoSequence]) -> str | None:
    """Say which masks of folders' videos show an object that is already followed; None without any."""
    idle = [
        video.masks[t]
        for video in videos
        if isinstance(video, FolderSequence)
        for t in video.annotated_frames
        if any(video.first_frame(i) < t for i in set(video.object_ids).intersection(video.visible(t)))
    ]
    if not idle:
        return None
    more = f" and {len(idle) - 1} more" * (len(idle) > 1)
    return (
        "masks of objects that are already followed are compared with what is found and correct nothing: "
        f"{idle[0]}{more}"
    )


def list_folder(
    images: str,
    masks: str,
    annotated: Sequence[str] | None = None,
    sequences: Sequence[str] | None = None,
    short_side: int | None = None,
    defects: dict[str, str] | None = None,
) -> list[FolderSequence]:
    """Do as folder_sequences, but leave all files but each first mask unopened.

    defects: takes what cannot be listed, by name.
    """
    top, mask_top = _image_folder(images), _mask_place(masks)
    single = bool(_frames(top, mask_top))
    # The name of . or .. is that of the folder.
    own_name = Path(os.path.abspath(top)).name
    names = choose(sequences, [own_name] if single else subfolders(top), "sequence", str(top))
    if not names:
        raise UserError(no_frames(top, "neither frames nor folders", "set dataset.images"))
    if mask_top.is_file() and not single:
        raise UserError(
            f"the mask {mask_top} belongs to one video, but {top} is a folder of videos: set "
            f"dataset.images to one of them, {top / names[0]}, or dataset.masks to a folder with a folder of "
            "masks for each"
        )

    def sequence(name: str) -> FolderSequence:
        places = (top, mask_top) if single else (top / name, mask_top / name)
        made = _sequence(name, *places, annotated, short_side)
        made.nested = not single and sequences is None
        return made

    return list_each(sequence, names, defects)


def _image_folder(images: str) -> Path:
    path = Path(images).expanduser()
    if path.suffix.lower() in FRAME_SUFFIXES:
        mend = f"{_NO_FOLDER}, such as {path.absolute().parent}"
    else:
        command = f"ffmpeg -i {quote(str(path))} -q:v 2 frames/%05d.jpg"
        mend = f"make a folder of its frames, with mkdir frames && {command}"
    return folder(path, _NO_FOLDER, mend)


def _mask_place(masks: str) -> Path:
    """The existing mask or folder of masks."""
    path = Path(masks).expanduser()
    if not path.is_file():
        return folder(path, "set dataset.masks to a mask, or to a folder of masks named as their frames")
    if path.suffix.lower() != ".png":
        raise UserError(f"the mask {path} is no PNG file, whose values are exact: save it as one")
    return path


def _sequence(
    name: str, images: Path, masks: Path, annotated: Sequence[str] | None, short_side: int | None
) -> FolderSequence:
    frames = _frames(images, masks)
    if not frames:
        raise UserError(no_frames(images, "no frames", "add images to it, or leave it out"))
    found = _masks(frames, masks)
    index = {stem: t for t, stem in enumerate(frames)}
    chosen = {index[stem]: found[stem] for stem in choose(annotated, found, "mask for frame", str(masks))}
    sequence = FolderSequence(name, list(frames.values()), chosen, False, short_side)
    sequence.white = bool(chosen) and _is_silhouette(chosen[min(chosen)])
    return sequence


def _frames(images: Path, masks: Path) -> dict[str, Path]:
    """Image files that are no masks, by name."""
    if masks.resolve() == images.resolve():
        return files(images, FRAME_SUFFIXES - {".png"})
    return files(images, without=masks)


def _masks(frames: dict[str, Path], masks: Path) -> dict[str, Path]:
    """Mask files by name of their frame."""
    if masks.is_file():
        return {masks.stem if masks.stem in frames else next(iter(frames)): masks}
    found = files(folder(masks, "add masks for this sequence, or leave it out"), [".png"])
    images = next(iter(frames.values())).parent
    for stem in found:
        choose([stem], frames, f"the mask {found[stem]} has no frame:", str(images))
    if masks.resolve() != images.resolve():
        for stem, path in files(masks, FRAME_SUFFIXES - {".png"}).items():
            if stem in frames and stem not in found:
                raise UserError(
                    f"the mask {path} is no PNG file, whose values are exact (JPEG blurs ids): save it as one"
                )
    return found


def _is_silhouette(first: Path) -> bool:
    """Whether the first mask is grey, and white on black."""
    if read_header(first)[1] != "L":
        return False
    labels = read_labels(first)
    return bool((labels == IGNORE).any()) and not visible_objects(labels)
