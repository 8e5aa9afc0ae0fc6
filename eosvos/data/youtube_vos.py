"""YouTube-VOS in its official layout (method, section 8)."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from eosvos.data.checks import sound
from eosvos.data.files import FileSequence
from eosvos.data.layouts import choose, files, folder, list_each, no_frames, read_text, subfolders
from eosvos.data.sequence import IGNORE, VideoSequence
from eosvos.errors import UserError
from eosvos.seeding import derive_seed

_MEND = "set dataset.root to the folder that holds train and valid"


class YouTubeVOSSequence(FileSequence):
    """A video of YouTube-VOS; `categories` maps object ids to the names of what they are ("" if not told)."""

    nested = True
    categories: dict[int, str]

    @property
    def listed_ids(self) -> tuple[int, ...]:
        """Ids of the objects, ascending, as meta.json lists them; reads no mask."""
        return tuple(sorted(self.categories))

    @cached_property
    def object_ids(self) -> tuple[int, ...]:
        """Those listed that a mask shows; reads masks until all are found."""
        return tuple(sorted(self.categories.keys() & self._search(self.categories.keys()).keys()))

    def _reading(self) -> tuple[Any, ...]:
        return *super()._reading(), self.listed_ids

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


class _Listed(NamedTuple):
    """What meta.json says of a video: the category of each object, and the names of frames that show one."""

    categories: dict[int, str]
    frames: frozenset[str]


def youtube_vos_sequences(
    root: str,
    split: str = "train",
    part: str | None = None,
    held_out: int = 100,
    seed: int = 0,
    sequences: Sequence[str] | None = None,
    short_side: int | None = None,
) -> list[VideoSequence]:
    """Return the videos of YouTube-VOS below `root`, the header of each first mask and its frame checked.

    And, in train, that frame and mask exist wherever meta.json says that an object is shown.
    split: train, valid, test or valid_all_frames. part: None for all of it; of train, "held_out" for
    `held_out` videos spread over the categories as all are, chosen by `seed`, or "fit" for the others.
    sequences: some by name. short_side: pixels, see FileSequence.
    Raises UserError for a missing folder, an unknown split or sequence, a part of another split than train,
    or the first defect of a file.
    """
    listed = list_youtube_vos(root, split, part, held_out, seed, sequences, short_side)
    return [*sound(listed, first_only=True)]


def list_youtube_vos(
    root: str,
    split: str = "train",
    part: str | None = None,
    held_out: int = 100,
    seed: int = 0,
    sequences: Sequence[str] | None = None,
    short_side: int | None = None,
    defects: dict[str, str] | None = None,
) -> list[YouTubeVOSSequence]:
    """Do as youtube_vos_sequences, but open no image or mask.

    defects: takes what cannot be listed, by name.
    """
    top = folder(root, _MEND)
    choose([split], subfolders(top), "split", str(top))
    if part is not None and split != "train":
        raise UserError(f"part={part} is a part of split train, and {split} has none: set part=null")
    meta = top / split.removesuffix("_all_frames") / "meta.json"
    videos = _read_meta(meta)
    chosen = _part({name: video.categories for name, video in videos.items()}, part, held_out, seed)
    where = f"split {split} of {top}" + f", part {part} with held_out={held_out}" * (part is not None)
    names = choose(sequences, chosen, "sequence", where)
    mend = f"{meta} lists it: restore the video, or take it off the list"

    def sequence(name: str) -> YouTubeVOSSequence:
        # Elsewhere frames are listed that have no mask to learn from.
        annotated = videos[name].frames if split == "train" else frozenset()
        places = (top / split / kind / name for kind in ("JPEGImages", "Annotations"))
        images, masks = (folder(place, mend) for place in places)
        return _sequence(images, masks, videos[name].categories, annotated, short_side)

    return list_each(sequence, names, defects)


def _read_meta(path: Path) -> dict[str, _Listed]:
    """Read meta.json: what it says of every video."""
    try:
        videos: dict[str, Any] = json.loads(read_text(path))["videos"]
        listed = {name: _listed(video["objects"]) for name, video in videos.items()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read as a list of videos and objects ({error}): restore it"
        ) from error
    if not listed:
        raise UserError(f"{path} names no video: restore the official list")
    return listed


def _listed(objects: dict[str, Any]) -> _Listed:
    categories = {int(i): str(thing.get("category", "")) for i, thing in objects.items()}
    if unknown := [i for i in categories if not 0 < i < IGNORE]:
        raise ValueError(f"object {unknown[0]} is not in 1 .. {IGNORE - 1}")
    frames = [t for thing in objects.values() for t in thing.get("frames", ())]
    if unknown := [t for t in frames if not isinstance(t, str)]:
        raise ValueError(f"frame {unknown[0]} is not the name of a frame")
    return _Listed(categories, frozenset(frames))


def _part(videos: dict[str, dict[int, str]], part: str | None, held_out: int, seed: int) -> list[str]:
    """Names of the videos of a part, sorted."""
    if part is None:
        return sorted(videos)
    choose([part], ["fit", "held_out"], "part", "YouTube-VOS")
    if not 0 < held_out < len(videos):
        raise UserError(
            f"held_out={held_out} of {len(videos)} videos leaves nothing: choose less, at least 1"
        )
    held = set(_spread(videos, seed)[:held_out])
    return sorted(name for name in videos if (name in held) == (part == "held_out"))


def _spread(videos: dict[str, dict[int, str]], seed: int) -> list[str]:
    """All videos, in an order whose every beginning has about the share of each category that all have."""
    categories: dict[str, list[str]] = defaultdict(list)
    for name in sorted(videos, key=lambda name: derive_seed("held out", seed, name)):
        categories[min(videos[name].items())[1] if videos[name] else ""].append(name)
    place = {
        name: ((rank + 0.5) / len(names), derive_seed("held out", seed, name))
        for names in categories.values()
        for rank, name in enumerate(names)
    }
    return sorted(videos, key=place.__getitem__)


def _sequence(
    images: Path,
    annotations: Path,
    categories: dict[int, str],
    annotated: frozenset[str],
    short_side: int | None,
) -> YouTubeVOSSequence:
    """Pair frames and masks by name; those that should be there but are not are noted as missing.

    annotated: names of the frames that must have a mask.
    """
    found, masks = files(images), files(annotations, [".png"])
    annotated |= masks.keys()
    names = sorted(found.keys() | annotated)
    if not names:
        raise UserError(no_frames(images, "no frames", "restore the video"))
    frames = [found.get(stem, images / f"{stem}.jpg") for stem in names]
    paths = {
        t: masks.get(stem, annotations / f"{stem}.png") for t, stem in enumerate(names) if stem in annotated
    }
    sequence = YouTubeVOSSequence(images.name, frames, paths, False, short_side)
    sequence.categories = categories
    sequence.missing = [path for path in frames if path.stem not in found]
    sequence.missing += [path for path in paths.values() if path.stem not in masks]
    return sequence
