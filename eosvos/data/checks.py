"""What can be wrong with files: a quick check of headers at every start, and a whole one on request."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from eosvos.data.files import (
    ID_MODES,
    FileSequence,
    misfit,
    no_ids,
    read_header,
    read_image,
    read_labels,
)
from eosvos.data.sequence import IGNORE
from eosvos.errors import UserError

_Sequences = TypeVar("_Sequences", bound=Sequence[FileSequence])


def sound(sequences: _Sequences, first_only: bool = False) -> _Sequences:
    """Return the sequences if their headers are in order; else raise UserError with the first defect.

    first_only: look at the first mask of each sequence and its frame only (for tens of thousands of files).
    """
    for sequence in sequences:
        frames = sequence.annotated_frames[:1] if first_only else range(sequence.num_frames)
        for defect in header_defects(sequence, frames):
            raise UserError(defect)
    return sequences


def header_defects(sequence: FileSequence, frames: Iterable[int]) -> Iterator[str]:
    """Say, a sentence each, which of these frames or their masks are missing or of a wrong size or mode.

    Opens files without decoding them, but for masks up to the first that shows an object.
    """
    yield from _file_defects(sequence, frames, _check_image_header, _check_mask_header)
    yield from _no_object(sequence)


def all_defects(sequence: FileSequence) -> Iterator[str]:
    """Decode every file of a sequence and say, a sentence each, what is wrong."""
    yield from _file_defects(sequence, range(sequence.num_frames), _decode_image, _decode_mask)
    yield from _no_object(sequence)


def _file_defects(
    sequence: FileSequence,
    frames: Iterable[int],
    check_image: Callable[[FileSequence, Path], None],
    check_mask: Callable[[FileSequence, Path], None],
) -> Iterator[str]:
    told = set()
    for t in frames:
        jobs = [(check_image, sequence.frames[t])]
        if t in sequence.masks:
            jobs.append((check_mask, sequence.masks[t]))
        for check, path in jobs:
            try:
                check(sequence, path)
            except UserError as defect:
                if str(defect) not in told:
                    yield str(defect)
                told.add(str(defect))


def _check_size(sequence: FileSequence, path: Path, size: tuple[int, ...]) -> None:
    if path != sequence.frames[0] and size != sequence.file_size:
        raise UserError(misfit(path, size, sequence.frames[0], sequence.file_size))


def _check_image_header(sequence: FileSequence, path: Path) -> None:
    _check_size(sequence, path, read_header(path)[0])


def _check_mask_header(sequence: FileSequence, path: Path) -> None:
    size, mode = read_header(path)
    _check_size(sequence, path, size)
    if mode not in ID_MODES and not sequence.merge:
        raise UserError(no_ids(path))


def _decode_image(sequence: FileSequence, path: Path) -> None:
    _check_size(sequence, path, read_image(path).shape[:2])


def _decode_mask(sequence: FileSequence, path: Path) -> None:
    _check_size(sequence, path, read_labels(path, sequence.merge).shape)


def _no_object(sequence: FileSequence) -> Iterator[str]:
    """Say so if no readable mask shows an object."""
    if not sequence.masks:
        yield f"sequence {sequence.name} has no mask: add one for its first frame, {sequence.frames[0].stem}"
    elif not any(_shows_object(path, sequence.merge) for path in sequence.masks.values()):
        first = next(iter(sequence.masks.values()))
        yield f"no mask of sequence {sequence.name} shows an object: correct {first} or leave it out"


def _shows_object(path: Path, merge: bool) -> bool:
    """Whether a mask file has a pixel of an object; a broken one, reported elsewhere, counts as if."""
    try:
        labels = read_labels(path, merge)
    except UserError:
        return True
    return bool(((labels != 0) & (labels != IGNORE)).any())
