"""YouTube-VOS in its official layout (method, section 8)."""

import json
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from eosvos.data.checks import sound
from eosvos.data.files import FileSequence
from eosvos.data.layouts import choose, files, folder
from eosvos.data.sequence import VideoSequence
from eosvos.errors import UserError
from eosvos.seeding import derive_seed

_MEND = "set dataset.root to the folder that holds train and valid"


class YouTubeVOSSequence(FileSequence):
    """A video of YouTube-VOS; `categories` maps object ids to the names of what they are ("" if not told)."""

    categories: dict[int, str]

    @cached_property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the objects, ascending, as meta.json lists them; reads no mask."""
        return tuple(sorted(self.categories))


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

    split: train, valid, test or valid_all_frames. part: None for all of it, "held_out" for `held_out` videos
    spread over the categories as all are, chosen by `seed`, or "fit" for the others. sequences: some by name.
    short_side: pixels, see FileSequence.
    Raises UserError for a missing folder, an unknown split or sequence, or the first defect of a file.
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
) -> list[YouTubeVOSSequence]:
    """Do as youtube_vos_sequences, but leave images and masks unopened."""
    top = folder(root, _MEND)
    choose([split], [path.name for path in top.iterdir() if path.is_dir()], "split", str(top))
    videos = _read_meta(top, split)
    chosen = _part(videos, part, held_out, seed)
    names = choose(sequences, chosen, "sequence", f"split {split} of {top}")
    return [_sequence(top / split, name, videos[name], short_side) for name in names]


def _read_meta(top: Path, split: str) -> dict[str, dict[int, str]]:
    """Read meta.json: the category of every object of every video."""
    path = top / split.removesuffix("_all_frames") / "meta.json"
    try:
        videos: dict[str, Any] = json.loads(path.read_text())["videos"]
        return {
            name: {int(i): str(thing.get("category", "")) for i, thing in video["objects"].items()}
            for name, video in videos.items()
        }
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read as a list of videos and objects ({error}): restore it"
        ) from error


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


def _sequence(top: Path, name: str, categories: dict[int, str], short_side: int | None) -> YouTubeVOSSequence:
    """Pair frames and masks by name; the frame of a mask is part of the video, to be reported if missing."""
    images = folder(top / "JPEGImages" / name, "restore the video or take it out of meta.json")
    annotations = folder(top / "Annotations" / name, "restore the masks or take the video out of meta.json")
    masks = files(annotations, [".png"])
    names = sorted(files(images).keys() | masks.keys())
    if not names:
        raise UserError(f"the folder {images} holds no frames: restore the video")
    paths = {names.index(stem): path for stem, path in masks.items()}
    sequence = YouTubeVOSSequence(name, [images / f"{stem}.jpg" for stem in names], paths, False, short_side)
    sequence.categories = categories
    return sequence
