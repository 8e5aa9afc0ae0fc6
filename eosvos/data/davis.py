"""DAVIS 2016 and 2017 in their official layouts (method, section 8)."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from eosvos.config.data import Davis
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
from eosvos.data.split_file import select
from eosvos.errors import UserError

_REMEDY = "set root to the folder that holds JPEGImages, Annotations and ImageSets"


class DavisSequence(FileSequence):
    """A video of DAVIS: its first mask shows every object."""

    all_objects_in_first_mask = True
    folder_per_video = True

    @cached_property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the objects, ascending: those of the first mask that, as reduced, shows any."""
        return tuple(next(filter(None, map(self.visible_objects, self.annotated_frames)), ()))

    def id_defects(self, shown: Mapping[int, Path]) -> Iterator[str]:
        """Say which objects are left out, as only a later mask shows them."""
        first = self.masks[0]
        for object_id, path in shown.items():
            if path != first and first in shown.values():
                yield (
                    f"{path} shows object {object_id}, but the first mask, {first}, does not, so that it is "
                    "left out: correct one of them"
                )


def davis_sequences(settings: Davis, defects: dict[str, str] | None = None) -> list[DavisSequence]:
    """Return the videos of DAVIS, their headers checked.

    In 2016 any pixel of a mask that is not black is object 1; in 2017 values are object ids, 255 is ignored.
    defects: if given, it takes the message for each video that cannot be listed, by name, and no file is
    opened.
    Raises UserError for a missing folder, an unknown split or sequence, or the first defect of a file.
    """
    top, year, resolution = existing_folder(settings.root, _REMEDY), settings.year, settings.resolution
    images = existing_folder(top / "JPEGImages" / resolution, _REMEDY + ", or change the resolution")
    existing_folder(top / "Annotations" / resolution, _REMEDY + ", or change the resolution")
    lists = _lists(top, year, resolution)
    if settings.split:
        select_names([settings.split], lists, "split", str(top / "ImageSets"))
        path = lists[settings.split]
        listed, where = _read_list(path), f"split {settings.split} of {top}"
        remedy = f"{path} lists it: restore the sequence, or take it off the list"
    else:
        listed, where, remedy = dict.fromkeys(subfolders(images)), str(images), _REMEDY
        if not listed:
            raise UserError(f"the folder {images} holds no sequences: {_REMEDY}")
    names = select(settings, listed, "sequence", where)

    def sequence(name: str) -> DavisSequence:
        folders = (top / kind / resolution / name for kind in ("JPEGImages", "Annotations"))
        images, masks = (existing_folder(path, remedy) for path in folders)
        return _sequence(images, masks, listed[name], settings)

    found = build_each(sequence, names, defects)
    if defects is None:
        check_headers(found)
    return found


def davis_splits(settings: Davis) -> list[str]:
    """Names of the lists in ImageSets, sorted; raises UserError if the root is missing."""
    return sorted(_lists(existing_folder(settings.root, _REMEDY), settings.year, settings.resolution))


def _lists(top: Path, year: str, resolution: str) -> dict[str, Path]:
    """The lists of ImageSets, by the split that is their name."""
    parts = (resolution, "480p", "1080p", "2016") if year == "2016" else ("2017",)
    # Without hidden files, such as those that macOS leaves beside others.
    found = ((top / "ImageSets" / part).glob("[!.]*.txt") for part in reversed(parts))
    return {path.stem: path for paths in found for path in paths}


def _read_list(path: Path) -> dict[str, list[str] | None]:
    """Read a list of ImageSets: frames of each sequence where it names them, else None."""
    listed: dict[str, list[str] | None] = {}
    for line in filter(str.strip, read_text(path).splitlines()):
        entry = Path(line.split()[0])
        if len(entry.parts) == 1:
            listed[entry.name] = None
        else:
            listed[entry.parent.name] = [*(listed.get(entry.parent.name) or []), entry.stem]
    if not listed:
        raise UserError(f"{path} names no sequence: restore the official list")
    return listed


def _sequence(images: Path, annotations: Path, listed: list[str] | None, settings: Davis) -> DavisSequence:
    """Pair frames and masks by name.

    Videos are annotated in all frames, or in the first one only (test-dev). Missing files are part of the
    sequence, so that the check of headers reports them.
    """
    masks = files_by_stem(annotations, [".png"])
    names = listed or _without_gaps(files_by_stem(images).keys() | masks.keys())
    if not names:
        raise UserError(
            no_frames_message(images, "no frames", "restore the sequence or take it off the list")
        )
    annotated = names if len(masks) > 1 else names[:1]
    frames = [images / f"{stem}.jpg" for stem in names]
    paths = {t: annotations / f"{stem}.png" for t, stem in enumerate(annotated)}
    sequence = DavisSequence(images.name, frames, paths, settings.year == "2016", settings.short_side)
    sequence.server_folder = sequence.name if settings.has_server else None
    return sequence


def _without_gaps(stems: set[str]) -> list[str]:
    """Names of all frames from the first to the last: DAVIS counts them without gaps."""
    if not all(stem.isdecimal() for stem in stems):
        return sorted(stems)
    numbers = [int(stem) for stem in stems]
    return [f"{t:05d}" for t in range(min(numbers), max(numbers) + 1)] if numbers else []
