"""What the official layouts share: folders that must exist, names to choose from, files in order."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from eosvos.errors import UserError, suggest

_Listed = TypeVar("_Listed")

FRAME_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def folder(path: str | Path, mend: str) -> Path:
    """Return an existing folder; else raise UserError that ends with `mend`, what to do."""
    path = Path(path).expanduser()
    if not path.is_dir():
        raise UserError(f"the folder {path} does not exist: {mend}")
    return path


def choose(wanted: Sequence[str] | None, known: Iterable[str], what: str, where: str) -> list[str]:
    """Return the wanted names, all that are known for None.

    Raises UserError if one is not known, with the names that are close to it.
    """
    known = list(known)
    for name in wanted or ():
        if name not in known:
            raise UserError(f"{what} {name!r} is not in {where}: {suggest(name, known)}")
    return list(wanted) if wanted is not None else known


def subfolders(path: Path) -> list[str]:
    """Names of the folders in a folder, sorted."""
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def files(path: Path, suffixes: Iterable[str] = FRAME_SUFFIXES) -> dict[str, Path]:
    """Files in a folder with one of the suffixes, by stem, in the order of the numbers in their names.

    Raises UserError if two have the same stem.
    """
    found = [entry for entry in path.iterdir() if entry.suffix.lower() in suffixes and entry.name[0] != "."]
    by_stem: dict[str, Path] = {}
    for entry in sorted(found, key=lambda entry: (_natural(entry.stem), entry.name)):
        twin = by_stem.setdefault(entry.stem, entry)
        if twin is not entry:
            raise UserError(f"{twin} and {entry.name} beside it are both {entry.stem}: take one of them away")
    return by_stem


def list_each(
    make: Callable[[str], _Listed], names: Iterable[str], defects: list[str] | None
) -> list[_Listed]:
    """Make something of every name; a UserError is added to `defects` and its name left out.

    Without `defects` the first one is raised.
    """
    made = []
    for name in names:
        try:
            made.append(make(name))
        except UserError as error:
            if defects is None:
                raise
            defects.append(str(error))
    return made


def _natural(name: str) -> list[tuple[int, str]]:
    """Key that sorts frame2 before frame10."""
    return [(int(part or -1), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
