"""What the official layouts share: folders that must exist, names to choose from, files in order."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from eosvos.errors import UserError, suggest

_Listed = TypeVar("_Listed")

FRAME_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def folder(path: str | Path, mend: str, file_mend: str | None = None) -> Path:
    """Return an existing folder, `~` expanded; else raise UserError that ends with `mend`, what to do.

    file_mend: what to do instead where it is a file.
    """
    path = Path(path).expanduser()
    with _refused_folder_named(path):
        if path.is_file():
            raise UserError(f"{path} is a file, not a folder: {file_mend or mend}")
        if not path.is_dir():
            raise UserError(f"the folder {path} does not exist: {mend}")
    return path


def choose(wanted: Sequence[str] | None, known: Iterable[str], what: str, where: str) -> list[str]:
    """Return the wanted names, each once; all that are known for None.

    Raises UserError if one is not known, with the names that are close to it, or if none is wanted.
    """
    known = list(known)
    if wanted is not None and not wanted:
        raise UserError(f"an empty list, [], chooses no {what} of {where}: name some, or give null for all")
    for name in wanted or ():
        if name not in known:
            raise UserError(f"{what} {name!r} is not in {where}: {suggest(name, known)}")
    return list(dict.fromkeys(wanted)) if wanted is not None else known


def subfolders(path: Path) -> list[str]:
    """Names of the folders in a folder, sorted."""
    return sorted(entry.name for entry in _entries(path) if entry.is_dir())


def files(
    path: Path, suffixes: Iterable[str] = FRAME_SUFFIXES, without: Path | None = None
) -> dict[str, Path]:
    """Files in a folder with one of the suffixes, by stem, in the order of the numbers in their names.

    without: a file that is left out. Raises UserError if two have the same stem.
    """
    found = [
        path / entry.name
        for entry in _entries(path)
        if Path(entry.name).suffix.lower() in suffixes and not entry.is_dir()
    ]
    if without is not None and without.parent.resolve() == path.resolve():
        found = [file for file in found if file.name != without.name]
    by_stem: dict[str, Path] = {}
    for file in sorted(found, key=lambda file: (_natural(file.stem), file.name)):
        twin = by_stem.setdefault(file.stem, file)
        if twin is not file:
            raise UserError(f"{twin} and {file.name} beside it are both {file.stem}: take one of them away")
    return by_stem


def no_frames(path: Path, what: str, mend: str) -> str:
    """Say that a folder does not hold `what`: which names are read, and which are there."""
    there = Counter(Path(entry.name).suffix.lower() for entry in _entries(path) if entry.is_file())
    found = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in there.most_common(5))
    return (
        f"the folder {path} holds {what} ({', '.join(sorted(FRAME_SUFFIXES))} are read; there are "
        f"{found or 'no files'}): {mend}"
    )


def read_text(path: Path) -> str:
    """Read a list of a data set, UTF-8 with or without a byte order mark; raises UserError if that fails."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a text in UTF-8 ({error}): restore it") from error


def list_each(
    make: Callable[[str], _Listed], names: Iterable[str], defects: dict[str, str] | None
) -> list[_Listed]:
    """Make something of every name; where a UserError is raised, `defects` takes its message, by the name.

    Without `defects` the first one is raised.
    """
    made = []
    for name in names:
        try:
            made.append(make(name))
        except UserError as error:
            if defects is None:
                raise
            defects.setdefault(name, str(error))
    return made


def _entries(path: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, but for hidden entries; raises UserError if it cannot be listed."""
    with _refused_folder_named(path):
        return [entry for entry in os.scandir(path) if not entry.name.startswith(".")]


@contextmanager
def _refused_folder_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"the folder {path} cannot be read ({error.strerror}): allow it") from error


def _natural(name: str) -> list[tuple[int, str]]:
    """Key that sorts frame2 before frame10."""
    return [(int(part or -1), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
