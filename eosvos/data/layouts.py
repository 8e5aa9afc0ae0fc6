"""What all layouts share: folders that must exist, names to select from, files in order."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from eosvos.errors import UserError, suggest

_Built = TypeVar("_Built")

FRAME_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def existing_folder(path: str | Path, remedy: str, file_remedy: str | None = None) -> Path:
    """Return an existing folder, `~` expanded; else raise UserError that ends with `remedy`, what to do.

    file_remedy: what to do instead where it is a file.
    """
    path = Path(path).expanduser()
    with _naming_unreadable_folder(path):
        if path.is_file():
            raise UserError(f"{path} is a file, not a folder: {file_remedy or remedy}")
        if not path.is_dir():
            raise UserError(f"the folder {path} does not exist: {remedy}")
    return path


def select_names(wanted: Sequence[str] | None, known: Iterable[str], what: str, where: str) -> list[str]:
    """Return the wanted names, each once; all that are known for None.

    Raises UserError if one is not known, with the names that are close to it.
    """
    known = dict.fromkeys(known)
    if wanted is None:
        return list(known)
    for name in wanted:
        if name not in known:
            raise UserError(f"{what} {name!r} is not in {where}: {suggest(name, known)}")
    return list(dict.fromkeys(wanted))


def subfolders(path: Path) -> list[str]:
    """Names of the folders in a folder, sorted."""
    return sorted(name for name in _entries(path) if os.path.isdir(path / name))


def files_by_stem(
    path: Path, suffixes: Iterable[str] = FRAME_SUFFIXES, without: Path | None = None
) -> dict[str, Path]:
    """Files in a folder with one of the suffixes, by stem, in the order of the numbers in their names.

    without: a file that is left out. Raises UserError if two have the same stem.
    """
    found = [
        path / name
        for name in _entries(path)
        if Path(name).suffix.lower() in suffixes and not os.path.isdir(path / name)
    ]
    if without is not None:
        # By what it is, not where it lies: links may lead there.
        found = [file for file in found if os.path.realpath(file) != os.path.realpath(without)]
    by_stem: dict[str, Path] = {}
    for file in sorted(found, key=lambda file: (_natural(file.stem), file.name)):
        twin = by_stem.setdefault(file.stem, file)
        if twin is not file:
            raise UserError(f"{twin} and {file.name} beside it are both {file.stem}: take one of them away")
    return by_stem


def no_frames_message(path: Path, what: str, remedy: str) -> str:
    """Say that a folder does not hold `what`: which names are read, and which are there."""
    there = Counter(Path(name).suffix.lower() for name in _entries(path) if os.path.isfile(path / name))
    found = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in there.most_common(5))
    return (
        f"the folder {path} holds {what} ({', '.join(sorted(FRAME_SUFFIXES))} are read; there are "
        f"{found or 'no files'}): {remedy}"
    )


def read_text(path: Path) -> str:
    """Read a list of a data set, UTF-8 with or without a byte order mark; raises UserError if that fails."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a text in UTF-8 ({error}): restore it") from error


def build_each(
    build: Callable[[str], _Built], names: Iterable[str], defects: dict[str, str] | None
) -> list[_Built]:
    """Call `build` with every name and return the results.

    A UserError is raised; if `defects` is given, its message goes there, by name, and the name is left out.
    """
    built = []
    for name in names:
        try:
            built.append(build(name))
        except UserError as error:
            if defects is None:
                raise
            defects.setdefault(name, str(error))
    return built


def _entries(path: Path) -> list[str]:
    """Names in a folder, but for hidden ones; raises UserError if it cannot be listed."""
    with _naming_unreadable_folder(path):
        return [name for name in os.listdir(path) if not name.startswith(".")]


@contextmanager
def _naming_unreadable_folder(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"the folder {path} cannot be read ({error.strerror}): allow it, or choose another"
        ) from error


def _natural(name: str) -> list[tuple[int, str]]:
    """Key that sorts frame2 before frame10."""
    return [(int(part or -1), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
