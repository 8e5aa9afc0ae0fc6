"""Your own videos: folders of frames, and a mask for the first frame or for some."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np

from eosvos.config.data import PARTS, Folder
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
from eosvos.data.pictures import ID_MODES, inexact_message, read_header, read_ids, read_labels
from eosvos.data.sequence import IGNORE, VideoSequence, visible_objects
from eosvos.data.split_file import divide, divide_in_time, select
from eosvos.errors import UserError, listing, suggest

if TYPE_CHECKING:
    from numpy.typing import NDArray

_REMEDY = "set images to a folder of frames, or of folders of frames"


class FolderSequence(FileSequence):
    """A video of a folder. `white_is_object`: 255 is object 1, not ignored, in all of its grey masks."""

    white_is_object: bool = False

    def read_mask(self, path: Path) -> NDArray[np.uint8]:
        """Decode a mask file of this video: ids uint8 [h, w], in the file's size.

        Raises UserError if its ids cannot be those of the masks that were read before.
        """
        labels, palette = read_ids(path)
        ids = visible_objects(labels)
        if palette is None and self.white_is_object:
            return np.where(labels == IGNORE, np.uint8(1), labels)
        if palette is not None:
            self._check_colours(path, {object_id: tuple(palette[object_id]) for object_id in ids})
        elif self._colours and labels.any() and not ids:
            raise UserError(
                f"{path} is black and white, but {next(iter(self._colours.values()))[1]} of the same video "
                "has object ids: save both in the same way"
            )
        return labels

    @cached_property
    def _colours(self) -> dict[int, tuple[tuple[int, ...], Path]]:
        """The colour of each object in palette masks that were read, and the first file that has it."""
        return {}

    def _check_colours(self, path: Path, colours: dict[int, tuple[int, ...]]) -> None:
        for object_id, colour in colours.items():
            known, file = self._colours.setdefault(object_id, (colour, path))
            if known != colour:
                raise UserError(
                    f"object {object_id} has another colour in {path} than in {file}, so that it may be "
                    "another object: save all masks of a video with one palette"
                )

    def _read_settings(self) -> tuple[Any, ...]:
        return *super()._read_settings(), self.white_is_object


def folder_sequences(settings: Folder, defects: dict[str, str] | None = None) -> list[FolderSequence]:
    """Return the videos of a folder, their headers checked and their objects known.

    A single mask file belongs to the frame of its name, or of the number that is its name, else to the first
    frame. A file that is a mask is no frame. Values of palette and grey masks are object ids, 255 is ignored;
    but where the first mask that is not all black is black and white, white is object 1 in all of its video.
    defects: if given, it takes the message for each video that cannot be listed, by name, and no file but
    the masks up to that one is opened.
    Raises UserError for a missing folder, an unknown name, or the first defect of a file; of masks, which
    are made by hand, also those that only decoding shows.
    """
    top, mask_top = _tops(settings)
    single = bool(_frames(top, mask_top))
    every = _known(top, single)
    in_time = settings.is_divided and len(every) == 1
    known = _divided(settings, every)[settings.split_part] if settings.is_divided else every
    # Of those that are chosen, each part has its own.
    names = [name for name in select(settings, every, "sequence", str(top)) if name in known]
    if known and not names:
        raise UserError(
            f"sequences names no video of {settings.split_part} as {top} is divided, which has "
            f"{listing(known)}: choose some of these"
        )
    if not names:
        raise UserError(no_frames_message(top, "neither frames nor folders", "set images"))
    if mask_top.is_file() and not single:
        raise UserError(
            f"the mask {mask_top} belongs to one video, but {top} is a folder of videos: set "
            f"images to one of them, {top / names[0]}, or masks to a folder with a folder of masks for each"
        )

    def sequence(name: str) -> FolderSequence:
        paths = (top, mask_top) if single else (top / name, mask_top / name)
        made = _sequence(name, *paths, settings, in_time)
        made.folder_per_video = not single and settings.sequences is None
        return made

    found = build_each(sequence, names, defects)
    if defects is None:
        check_headers(found)
        for video in found:
            # Remembered, so that masks are not searched again.
            _ = video.object_ids
    return found


def division(settings: Folder) -> dict[str, list[str]]:
    """The names of the videos of train, val and test as settings divide them: by lot, a single one in time.

    Each part has then some frames of that one. Raises UserError if a part remains empty.
    """
    top, mask_top = _tops(settings)
    return _divided(settings, _known(top, bool(_frames(top, mask_top))))


def evaluation_only_masks_message(videos: Sequence[VideoSequence]) -> str | None:
    """Say which masks of folders' videos show an object that is already followed: they are for scores alone.

    Returns None if there is no such mask.
    """
    later = [
        video.masks[t]
        for video in videos
        if isinstance(video, FolderSequence)
        for t, objects in video.objects_by_frame.items()
        if any(video.first_frame(object_id) < t for object_id in objects)
    ]
    if not later:
        return None
    more = f" and {len(later) - 1} more" * (len(later) > 1)
    return (
        "masks of objects that are already followed are compared with what is found and correct nothing: "
        f"{later[0]}{more}"
    )


def _divided(settings: Folder, names: list[str]) -> dict[str, list[str]]:
    """What `division` returns, of videos that are listed already."""
    if len(names) <= 1:
        return dict.fromkeys(PARTS, names)
    val, test = settings.divide or (0, 0)
    remedy = (
        "choose other numbers, name the videos of each part in a split_file, or set images to the folder of "
        "one video, which is divided in time"
    )
    return divide(dict.fromkeys(names, ""), val, test, settings.divide_seed, True, remedy)


def _tops(settings: Folder) -> tuple[Path, Path]:
    """The folder of the frames, or of such folders, and the same for masks, or a single mask."""
    root = Path(settings.root or "")
    top = _image_folder(settings.images or str(root / "JPEGImages"))
    return top, _mask_path(settings.masks or str(root / "Annotations"))


def _known(top: Path, single: bool) -> list[str]:
    """The names of all videos in a folder, which may be a single one itself."""
    # The name of . or .. is that of the folder.
    return [Path(os.path.abspath(top)).name] if single else subfolders(top)


def _image_folder(images: str) -> Path:
    path = Path(images).expanduser()
    if path.suffix.lower() in FRAME_SUFFIXES:
        remedy = f"{_REMEDY}, such as {path.absolute().parent}"
    else:
        remedy = f"a video is dataset=video dataset.video={quote(str(path))}"
    return existing_folder(path, _REMEDY, remedy)


def _mask_path(masks: str) -> Path:
    """The existing mask or folder of masks."""
    path = Path(masks).expanduser()
    if not os.path.isfile(path):
        return existing_folder(path, "set masks to a mask, or to a folder of masks named as their frames")
    if path.suffix.lower() != ".png":
        raise UserError(inexact_message(path))
    return path


def _sequence(
    name: str, images: Path, masks: Path, settings: Folder, in_time: bool = False
) -> FolderSequence:
    frames = _frames(images, masks)
    if not frames:
        raise UserError(no_frames_message(images, "no frames", "add images to it, or leave it out"))
    found = _masks(frames, masks)
    used = set(select_names(settings.annotated, found, "mask for frame", str(masks)))
    annotated = [stem for stem in frames if stem in used]
    white_is_object = is_silhouette(found[stem] for stem in annotated)
    stems = [*frames]
    if in_time:
        val, test = settings.divide or (0, 0)
        stems = divide_in_time(name, stems, annotated, val, test)[settings.split_part]
    chosen = {t: found[stem] for t, stem in enumerate(stems) if stem in used}
    sequence = FolderSequence(name, [frames[stem] for stem in stems], chosen, False, settings.short_side)
    sequence.white_is_object = white_is_object
    return sequence


def _frames(images: Path, masks: Path) -> dict[str, Path]:
    """Image files that are no masks, by name."""
    if masks.resolve() == images.resolve():
        return files_by_stem(images, FRAME_SUFFIXES - {".png"})
    return files_by_stem(images, without=masks)


def _masks(frames: dict[str, Path], masks: Path) -> dict[str, Path]:
    """Mask files by name of their frame."""
    if masks.is_file():
        return {_frame_of(masks, frames): masks}
    found = files_by_stem(existing_folder(masks, "add masks for this sequence, or leave it out"), [".png"])
    images = next(iter(frames.values())).parent
    for stem, path in found.items():
        if stem not in frames:
            raise UserError(f"the mask {path} has no frame {stem!r} in {images}: {suggest(stem, frames)}")
    if masks.resolve() != images.resolve():
        for stem, path in files_by_stem(masks, FRAME_SUFFIXES - {".png"}).items():
            if stem in frames and stem not in found:
                raise UserError(inexact_message(path))
    return found


def _frame_of(mask: Path, frames: dict[str, Path]) -> str:
    """The name of the frame that a single mask belongs to."""
    if mask.stem in frames or not mask.stem.isdecimal():
        return mask.stem if mask.stem in frames else next(iter(frames))
    numbers = {stem: re.search(r"\d+$", stem) for stem in frames}
    same = [stem for stem, number in numbers.items() if number and int(number[0]) == int(mask.stem)]
    if len(same) != 1:
        raise UserError(
            f"the mask {mask} is of frame {int(mask.stem)}, and {next(iter(frames.values())).parent} has "
            f"{len(same) or 'none'} of that number: name it as its frame, or mask.png for the first one"
        )
    return same[0]


def is_silhouette(masks: Iterable[Path]) -> bool:
    """Whether the first mask that is not all black is white on black, and no palette image."""
    for path in masks:
        mode = read_header(path)[1]
        # Such a mask is refused when all are checked.
        if mode not in ID_MODES:
            break
        labels = read_labels(path)
        if labels.any():
            return mode == "1" or (mode == "L" and not visible_objects(labels))
    return False
