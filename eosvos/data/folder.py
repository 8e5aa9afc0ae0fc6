"""Your own videos: folders of frames, and a mask for the first frame or for some."""

import os
from collections.abc import Sequence
from pathlib import Path

from eosvos.data.checks import sound
from eosvos.data.files import FileSequence, read_header, read_labels
from eosvos.data.layouts import choose, files, folder, list_each, subfolders
from eosvos.data.sequence import IGNORE, VideoSequence, visible_objects
from eosvos.errors import UserError

_LARGEST_GREY_ID = 20
"""Larger values beside white (255) are taken for smooth edges."""


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
    Values of palette and grey masks are object ids, 255 is ignored; but a grey first mask of 0 and 255 alone
    means one object, and all masks of its video are read so; one of 255 and greys above 20 is refused.
    annotated: names of the frames whose masks are used, None for all. sequences: names of some videos.
    short_side: pixels, see FileSequence.
    Raises UserError for a missing folder, an unknown name, or the first defect of a file.
    """
    return [*sound(list_folder(images, masks, annotated, sequences, short_side))]


def list_folder(
    images: str,
    masks: str,
    annotated: Sequence[str] | None = None,
    sequences: Sequence[str] | None = None,
    short_side: int | None = None,
    defects: list[str] | None = None,
) -> list[FileSequence]:
    """Do as folder_sequences, but leave all files but each first mask unopened.

    defects: takes what cannot be listed.
    """
    top = folder(images, "set dataset.images to a folder of frames, or of folders of frames")
    mask_top = Path(masks).expanduser()
    if not mask_top.is_file():
        folder(mask_top, "set dataset.masks to a mask, or to a folder of masks named as their frames")
    elif mask_top.suffix.lower() != ".png":
        raise UserError(f"the mask {mask_top} is no PNG file, whose values are exact: save it as one")
    single = bool(files(top))
    # The name of . or .. is that of the folder.
    own_name = Path(os.path.abspath(top)).name
    names = choose(sequences, [own_name] if single else subfolders(top), "sequence", str(top))
    if not names:
        raise UserError(f"the folder {top} holds neither frames nor folders: set dataset.images")

    def sequence(name: str) -> FileSequence:
        places = (top, mask_top) if single else (top / name, mask_top / name)
        made = _sequence(name, *places, annotated, short_side)
        made.nested = not single and sequences is None
        return made

    return list_each(sequence, names, defects)


def _sequence(
    name: str, images: Path, masks: Path, annotated: Sequence[str] | None, short_side: int | None
) -> FileSequence:
    frames = files(images)
    if not frames:
        raise UserError(f"the folder {images} holds no frames: add images to it, or leave it out")
    found = _masks(frames, masks)
    index = {stem: t for t, stem in enumerate(frames)}
    chosen = {index[stem]: found[stem] for stem in choose(annotated, found, "a mask for frame", str(masks))}
    return FileSequence(name, list(frames.values()), chosen, _is_silhouette(chosen), short_side)


def _masks(frames: dict[str, Path], masks: Path) -> dict[str, Path]:
    """Mask files by name of their frame."""
    if masks.is_file():
        return {masks.stem if masks.stem in frames else next(iter(frames)): masks}
    found = files(folder(masks, "add masks for this sequence, or leave it out"), [".png"])
    for stem in found:
        choose(
            [stem], frames, f"the mask {found[stem]} has no frame:", str(next(iter(frames.values())).parent)
        )
    return found


def _is_silhouette(masks: dict[int, Path]) -> bool:
    """Whether the first mask is grey, and white on black; raises UserError if greys lie between."""
    first = masks[min(masks)] if masks else None
    if first is None or read_header(first)[1] not in ("L", "1"):
        return False
    labels = read_labels(first)
    ids = visible_objects(labels)
    white = bool((labels == IGNORE).any())
    if white and max(ids, default=0) > _LARGEST_GREY_ID:
        raise UserError(
            f"{first} holds white and {len(ids)} greys up to {max(ids)}, which look like smooth "
            "edges and no ids: threshold it to black and white, or save ids as a palette PNG"
        )
    return white and not ids
