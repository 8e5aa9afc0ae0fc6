"""DAVIS 2016 and 2017 in their official layouts (method, section 8)."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from eosvos.data.checks import sound
from eosvos.data.files import FileSequence
from eosvos.data.layouts import choose, files, folder, list_each, no_frames, read_text, subfolders
from eosvos.data.sequence import VideoSequence
from eosvos.errors import UserError

_MEND = "set dataset.root to the folder that holds JPEGImages, Annotations and ImageSets"


class DavisSequence(FileSequence):
    """A video of DAVIS: its first mask shows every object."""

    all_in_first = True
    nested = True

    @cached_property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the objects, ascending; reads masks up to the first that shows one (when reduced, too)."""
        return tuple(next(filter(None, map(self.visible, self.annotated_frames)), ()))

    def id_defects(self, shown: Mapping[int, Path]) -> Iterator[str]:
        """Say which objects are left out, as only a later mask shows them."""
        first = self.masks[0]
        for object_id, path in shown.items():
            if path != first and first in shown.values():
                yield (
                    f"{path} shows object {object_id}, but the first mask, {first}, does not, so that it is "
                    "left out: correct one of them"
                )


def davis_sequences(
    root: str,
    year: str,
    resolution: str = "480p",
    split: str | None = None,
    sequences: Sequence[str] | None = None,
    short_side: int | None = None,
) -> list[VideoSequence]:
    """Return the videos of DAVIS below `root`, their headers checked.

    year: 2016 (any pixel that is not black is object 1) or 2017 (values are object ids, 255 is ignored).
    resolution: 480p, 1080p or Full-Resolution. split: name of a list in ImageSets; None: all videos on disk.
    sequences: names of some of them. short_side: pixels, see FileSequence.
    Raises UserError for a missing folder, an unknown split or sequence, or the first defect of a file.
    """
    return [*sound(list_davis(root, year, resolution, split, sequences, short_side))]


def list_davis(
    root: str,
    year: str,
    resolution: str = "480p",
    split: str | None = None,
    sequences: Sequence[str] | None = None,
    short_side: int | None = None,
    defects: dict[str, str] | None = None,
) -> list[DavisSequence]:
    """Do as davis_sequences, but leave the files unopened.

    defects: takes what cannot be listed, by name.
    """
    if year not in ("2016", "2017"):
        raise UserError(f"DAVIS of the year {year!r} is not known: use 2016 or 2017")
    top = folder(root, _MEND)
    images = folder(top / "JPEGImages" / resolution, _MEND + ", or change the resolution")
    folder(top / "Annotations" / resolution, _MEND + ", or change the resolution")
    lists = _lists(top, year, resolution)
    if split:
        choose([split], lists, "split", str(top / "ImageSets"))
        listed, where = _read_list(lists[split]), f"split {split} of {top}"
        mend = f"{lists[split]} lists it: restore the sequence, or take it off the list"
    else:
        listed, where, mend = dict.fromkeys(subfolders(images)), str(images), _MEND
        if not listed:
            raise UserError(f"the folder {images} holds no sequences: {_MEND}")
    names = choose(sequences, listed, "sequence", where)

    def sequence(name: str) -> DavisSequence:
        places = (top / kind / resolution / name for kind in ("JPEGImages", "Annotations"))
        images, masks = (folder(place, mend) for place in places)
        return _sequence(images, masks, listed[name], year == "2016", short_side)

    return list_each(sequence, names, defects)


def davis_splits(root: str, year: str, resolution: str = "480p") -> list[str]:
    """Names of the lists in ImageSets, sorted."""
    return sorted(_lists(folder(root, _MEND), year, resolution))


def _lists(top: Path, year: str, resolution: str) -> dict[str, Path]:
    """The lists of ImageSets by their names, those of the splits."""
    parts = (resolution, "480p", "1080p", "2016") if year == "2016" else ("2017",)
    return {path.stem: path for part in reversed(parts) for path in (top / "ImageSets" / part).glob("*.txt")}


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


def _sequence(
    images: Path, annotations: Path, listed: list[str] | None, merge: bool, short_side: int | None
) -> DavisSequence:
    """Pair frames and masks by name.

    Videos are annotated in all frames, or in the first one only (test-dev). Files that should be there but
    are not are part of the sequence, for the check of headers to report.
    """
    masks = files(annotations, [".png"])
    names = listed or _without_gaps(files(images).keys() | masks.keys())
    if not names:
        raise UserError(no_frames(images, "no frames", "restore the sequence or take it off the list"))
    annotated = names if len(masks) > 1 else names[:1]
    frames = [images / f"{stem}.jpg" for stem in names]
    paths = {t: annotations / f"{stem}.png" for t, stem in enumerate(annotated)}
    return DavisSequence(images.name, frames, paths, merge, short_side)


def _without_gaps(stems: set[str]) -> list[str]:
    """Names of all frames from the first to the last: DAVIS counts them without gaps."""
    if not all(stem.isdecimal() for stem in stems):
        return sorted(stems)
    numbers = [int(stem) for stem in stems]
    return [f"{t:05d}" for t in range(min(numbers), max(numbers) + 1)] if numbers else []
