"""Defects of files: a quick check of headers at every start, a complete check on request."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

from eosvos.data.files import FileSequence, size_mismatch_message
from eosvos.data.pictures import (
    ID_MODES,
    missing_file_message,
    no_object_ids_message,
    read_header,
)
from eosvos.data.sequence import scored_frames, visible_objects
from eosvos.errors import UserError


def check_headers(sequences: Iterable[FileSequence], first_mask_only: bool = False) -> None:
    """Raise UserError with the first defect that the headers of the files show.

    first_mask_only: read only the first mask of each sequence and its frame (for tens of thousands of files).
    """
    for sequence in sequences:
        frames = sequence.annotated_frames[:1] if first_mask_only else range(sequence.num_frames)
        for defect in header_defects(sequence, frames):
            raise UserError(defect)


def header_defects(sequence: FileSequence, frames: Iterable[int]) -> Iterator[str]:
    """Say, a sentence each, which of these frames or their masks are missing or of a wrong size or mode.

    Also name all files of the listing that are missing. Files are opened but not decoded, except the masks up
    to the first that shows an object; of still pictures, of which there are many, none is.
    """
    files = _file_defects(sequence, frames, _check_image_header, _check_mask_header)
    decoded = () if sequence.still else _no_object(sequence)
    yield from _each_once(map(missing_file_message, sequence.missing_files), files, decoded)


def all_defects(sequence: FileSequence) -> Iterator[str]:
    """Decode every file of a sequence and say, a sentence each, what is wrong."""
    ids: dict[Path, list[int]] = {}

    def decode_mask(sequence: FileSequence, path: Path) -> None:
        labels = sequence.read_mask(path)
        ids[path] = visible_objects(labels)
        _check_size(sequence, path, labels.shape)

    files = _file_defects(sequence, range(sequence.num_frames), _decode_image, decode_mask)
    yield from _each_once(files, () if sequence.lists_no_object else _no_object(sequence))
    # A mask that cannot be read may show further objects.
    if len(ids) == len(sequence.masks):
        yield from sequence.id_defects({i: path for path in reversed(ids) for i in ids[path]})


def unscored_objects(sequence: FileSequence) -> Iterator[str]:
    """Say, a sentence each, which objects appear so late that no mask is left to score them, as others are.

    Nothing is said where no object is scored, or masks are broken. Decodes masks.
    """
    with suppress(UserError):
        scored = scored_frames(sequence)
        for object_id in sequence.object_ids if scored else ():
            first = sequence.first_frame(object_id)
            if first >= scored[-1]:
                yield f"object {object_id} is not scored: no mask comes after {sequence.masks[first]}"


def _each_once(*defects: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for defect in chain(*defects):
        if defect not in seen:
            yield defect
        seen.add(defect)


def _file_defects(
    sequence: FileSequence,
    frames: Iterable[int],
    check_image: Callable[[FileSequence, Path], None],
    check_mask: Callable[[FileSequence, Path], None],
) -> Iterator[str]:
    for t in frames:
        jobs = [(check_image, sequence.frames[t])]
        if t in sequence.masks:
            jobs.append((check_mask, sequence.masks[t]))
        for check, path in jobs:
            try:
                check(sequence, path)
            except UserError as defect:
                yield str(defect)


def _check_size(sequence: FileSequence, path: Path, size: tuple[int, ...]) -> None:
    if path != sequence.frames[0] and size != sequence.stored_size:
        raise UserError(size_mismatch_message(path, size, sequence.frames[0], sequence.stored_size))


def _check_image_header(sequence: FileSequence, path: Path) -> None:
    _check_size(sequence, path, read_header(path)[0])


def _check_mask_header(sequence: FileSequence, path: Path) -> None:
    size, mode = read_header(path)
    _check_size(sequence, path, size)
    if mode not in ID_MODES and not sequence.merge_objects:
        raise UserError(no_object_ids_message(path, mode))


def _decode_image(sequence: FileSequence, path: Path) -> None:
    _check_size(sequence, path, sequence.read_picture(path).shape[:2])


def _no_object(sequence: FileSequence) -> Iterator[str]:
    """Say so if no mask that should show an object does, or if one cannot be read before any is seen to."""
    if not sequence.masks:
        yield f"sequence {sequence.name} has no mask: add one for its first frame, {sequence.frames[0].stem}"
        return
    masks = list(sequence.masks.values())
    problem = f"no mask of sequence {sequence.name} shows an object"
    if sequence.all_objects_in_first_mask:
        masks, problem = masks[:1], f"the first mask of sequence {sequence.name} shows no object"
    try:
        for path in masks:
            shown = visible_objects(sequence.read_mask(path))
            if shown if sequence.listed_objects is None else sequence.listed_objects.intersection(shown):
                return
    except UserError as error:
        yield str(error)
        return
    values = "all is black" if sequence.merge_objects else "0 is background, and 255 is ignored"
    if sequence.listed_objects is not None:
        values = f"meta.json lists {', '.join(map(str, sorted(sequence.listed_objects))) or 'none'}"
    yield f"{problem} ({values}): correct {masks[0]}, or leave the sequence out"
