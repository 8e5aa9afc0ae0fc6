"""YouTube-VOS in its official layout (method, section 8)."""

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from eosvos.config.data import YouTubeVOS
from eosvos.data.defects import check_headers
from eosvos.data.files import FileSequence
from eosvos.data.layouts import (
    build_each,
    existing_folder,
    files_by_stem,
    no_frames_message,
    read_text,
    select_names,
    subfolders,
)
from eosvos.data.sequence import IGNORE
from eosvos.data.split_file import select, stratified_order
from eosvos.errors import UserError

_REMEDY = "set root to the folder that holds train and valid"


class YouTubeVOSSequence(FileSequence):
    """A video of YouTube-VOS; `categories` maps object ids to the names of what they are ("" if unknown).

    `listing`: the folder whose files name the frames that results are wanted for, `result_names`.
    """

    folder_per_video = True
    categories: dict[int, str]
    listing: Path
    result_names: tuple[str, ...] = ()

    @property
    def folders(self) -> tuple[Path, ...]:
        """Those of every video in files, and the listing."""
        return tuple(dict.fromkeys((*super().folders, self.listing, self.listing.parent)))

    @property
    def training_object_ids(self) -> tuple[int, ...]:
        """Ids of the objects, ascending, as meta.json lists them; reads no mask."""
        return tuple(sorted(self.categories))

    @cached_property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the listed objects that a mask shows; reads masks until all are found."""
        return tuple(sorted(self.categories.keys() & self._search(self.categories.keys()).keys()))

    def _read_settings(self) -> tuple[Any, ...]:
        return *super()._read_settings(), self.training_object_ids, self.result_names

    def id_defects(self, shown: Mapping[int, Path]) -> Iterator[str]:
        """Say which objects of meta.json no mask shows, and which of a mask meta.json does not list."""
        for object_id in sorted(self.categories.keys() - shown.keys()):
            yield (
                f"meta.json lists object {object_id} of sequence {self.name}, but no mask shows it: "
                "restore its masks, or take it out of meta.json"
            )
        for object_id in sorted(shown.keys() - self.categories.keys()):
            yield (
                f"{shown[object_id]} shows object {object_id}, but meta.json does not list it, so that it is "
                "left out: correct one of them"
            )


class _MetaEntry(NamedTuple):
    """What meta.json says of a video: the category of each object, and the names of frames that show one."""

    categories: dict[int, str]
    frames: frozenset[str]


def youtube_vos_sequences(
    settings: YouTubeVOS, defects: dict[str, str] | None = None
) -> list[YouTubeVOSSequence]:
    """Return the videos of YouTube-VOS, the headers of each first mask and its frame checked.

    Every frame that meta.json names must exist; in split train, so must its mask. A split X_all_frames has
    the frames of its own, masks and meta.json of X; results are wanted for the frames of X. Part held_out has
    about the same share of each category as the whole split.
    defects: if given, it takes the message for each video that cannot be listed, by name, and no file is
    opened.
    Raises UserError for a missing folder, an unknown split or sequence, a part of another split than train,
    or the first defect of a file.
    """
    top, split = existing_folder(settings.root, _REMEDY), settings.split
    part = None if settings.split_file else settings.part
    select_names([split], subfolders(top), "split", str(top))
    if part is not None and split != "train":
        raise UserError(f"part={part} is a part of split train, and {split} has none: leave part out")
    base = existing_folder(top / settings.masks_split, f"put it there, for {split} has its masks in it")
    meta = base / "meta.json"
    videos = _read_meta(meta)
    in_part = sorted(videos) if part is None else _videos_of_part(videos, settings)
    where = f"split {split} of {top}" + f", part {part} with held_out={settings.held_out}" * (
        part is not None
    )
    names = select(settings, in_part, "sequence", where)
    remedy = f"{meta} lists it: restore the video, or take it off the list"

    def sequence(name: str) -> YouTubeVOSSequence:
        folders = (top / split / "JPEGImages", base / "Annotations", base / "JPEGImages")
        images, masks, listing = (existing_folder(path / name, remedy) for path in folders)
        return _sequence(images, masks, listing, videos[name], settings)

    found = build_each(sequence, names, defects)
    if defects is None:
        check_headers(found, first_mask_only=True)
    return found


def _read_meta(path: Path) -> dict[str, _MetaEntry]:
    """Read meta.json: what it says of every video."""
    try:
        videos: dict[str, Any] = json.loads(read_text(path))["videos"]
        listed = {name: _parse_objects(video["objects"]) for name, video in videos.items()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read as a list of videos and objects ({error}): restore it"
        ) from error
    if not listed:
        raise UserError(f"{path} names no video: restore the official list")
    return listed


def _parse_objects(objects: dict[str, Any]) -> _MetaEntry:
    categories = {int(i): str(thing.get("category", "")) for i, thing in objects.items()}
    categories = dict(sorted(categories.items()))
    if unknown := [i for i in categories if not 0 < i < IGNORE]:
        raise ValueError(f"object {unknown[0]} is not in 1 .. {IGNORE - 1}")
    frames = [t for thing in objects.values() for t in thing.get("frames", ())]
    if unknown := [t for t in frames if not isinstance(t, str)]:
        raise ValueError(f"frame {unknown[0]} is not the name of a frame")
    return _MetaEntry(categories, frozenset(frames))


def _videos_of_part(videos: Mapping[str, _MetaEntry], settings: YouTubeVOS) -> list[str]:
    """Names of the videos of a part, sorted."""
    held_out = settings.held_out
    if held_out >= len(videos):
        raise UserError(f"held_out={held_out} of {len(videos)} videos leaves nothing: choose less")
    first = {name: next(iter(videos[name].categories.values()), "") for name in videos}
    held = set(stratified_order(first, settings.seed)[:held_out])
    return sorted(name for name in videos if (name in held) == (settings.part == "held_out"))


def _sequence(
    images: Path, annotations: Path, listing: Path, entry: _MetaEntry, settings: YouTubeVOS
) -> YouTubeVOSSequence:
    """Pair frames and masks by name; those that should be there but are not are noted as missing."""
    found, masks = files_by_stem(images), files_by_stem(annotations, [".png"])
    # Only in split train does every listed frame have a mask.
    annotated = masks.keys() | (entry.frames if settings.masks_split == "train" else set())
    wanted = files_by_stem(listing).keys() | entry.frames
    names = sorted(found.keys() | annotated | wanted)
    if not names:
        raise UserError(no_frames_message(images, "no frames", "restore the video"))
    frames = [found.get(stem, images / f"{stem}.jpg") for stem in names]
    paths = {
        t: masks.get(stem, annotations / f"{stem}.png") for t, stem in enumerate(names) if stem in annotated
    }
    sequence = YouTubeVOSSequence(images.name, frames, paths, False, settings.short_side)
    sequence.categories, sequence.listing = entry.categories, listing
    sequence.listed_objects = frozenset(entry.categories)
    sequence.result_names = tuple(sorted(wanted))
    sequence.server_folder = f"Annotations/{sequence.name}" if settings.has_server else None
    sequence.missing_files = [path for path in frames if path.stem not in found]
    sequence.missing_files += [path for path in paths.values() if path.stem not in masks]
    return sequence
