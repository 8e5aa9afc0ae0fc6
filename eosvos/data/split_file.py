"""Seeded splits of a data set's videos into train, val and test, and the files that hold them."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eosvos.config.data import PARTS, Files
from eosvos.data.layouts import read_text, select_names
from eosvos.errors import UserError
from eosvos.seeding import derive_seed
from eosvos.writing import write_whole


def select(settings: Files, known: Iterable[str], what: str, where: str) -> list[str]:
    """Return the names that the settings choose of those that are known: by the split, then by name.

    what: what a name is of, such as "sequence"; where: where the names are known from. Raises UserError if a
    chosen name is not known.
    """
    if settings.split_file is not None:
        path, part = Path(settings.split_file), settings.split_part
        if not (names := read_split(path)[part]):
            raise UserError(
                f"{part} of {path} names no {what}: add some, or set {part} of the data set to null"
            )
        known = select_names(names, known, f"{path} is of other data: {what}", where)
        where = f"{part} of {path}"
    return select_names(settings.sequences, known, what, where)


def read_split(path: Path) -> dict[str, list[str]]:
    """The names of each part of a split; raises UserError if the file holds none."""
    try:
        split = json.loads(read_text(path))
        parts = {part: split[part] for part in PARTS}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no split ({error!r:.200}): make one, python -m eosvos.data split"
        ) from error
    for names in parts.values():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{path} is no split, lists of names: make one, python -m eosvos.data split")
    return parts


def write_split(path: Path, parts: Mapping[str, Sequence[str]], made_by: Mapping[str, Any]) -> None:
    """Write a split and what it was made by; raises UserError if the file is there, as runs depend on it."""
    if path.exists():
        raise UserError(f"{path} is there already: use it, or choose another file for another split")
    write_whole(path, (json.dumps({"made_by": dict(made_by), **parts}, indent=1) + "\n").encode())


def divide(
    categories: Mapping[str, str],
    val: float,
    test: float,
    seed: int,
    clips_together: bool,
    remedy: str = "choose other numbers",
) -> dict[str, list[str]]:
    """Divide videos into train, val and test by a seed, so that each has about the same share of a category.

    categories: that of each video, by name; "" if unknown. val, test: number of videos if 1 or more, else a
    share of them. clips_together: videos whose names differ only in a number at the end (X_0, X_1) are clips
    of one, and come into the same part.
    Raises UserError, which ends with `remedy`, what to do, if a part remains empty.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(categories):
        groups[re.sub(r"_\d+$", "", name) if clips_together else name].append(name)
    wanted = {"val": _count(val, len(categories)), "test": _count(test, len(categories))}
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for group in stratified_order({group: categories[names[0]] for group, names in groups.items()}, seed):
        room = (part for part, n in wanted.items() if len(parts[part]) + len(groups[group]) <= n)
        parts[next(room, "train")] += groups[group]
    for part, names in parts.items():
        if not names and wanted.get(part, 1):
            raise UserError(
                f"nothing is left for {part} of {len(categories)} videos, {len(groups)} if clips of one are "
                f"counted once, with val={val:g} and test={test:g}: {remedy}"
            )
    return {part: sorted(names) for part, names in parts.items()}


def divide_in_time(
    name: str, frames: Sequence[str], annotated: Sequence[str], val: float, test: float
) -> dict[str, list[str]]:
    """Divide the frames of a video, by name and in order, into train, val and test, one after the other.

    annotated: frames with masks. val, test: number of masks if 1 or more, else a share of them; in both,
    three at least: one is given, and the last frame is not scored. Each begins with a mask.
    Raises UserError if less than two are left for train.
    """
    of_val, of_test = (max(3, _count(amount, len(annotated))) for amount in (val, test))
    to_train_on = len(annotated) - of_val - of_test
    if to_train_on < 2:
        raise UserError(
            f"the only video, {name}, has masks for {len(annotated)} frames, and {of_val} for val and "
            f"{of_test} for test leave too few to train on: give masks of more of its frames, or more videos"
        )
    begin_val, begin_test = (frames.index(annotated[i]) for i in (to_train_on, to_train_on + of_val))
    return {
        "train": [*frames[:begin_val]],
        "val": [*frames[begin_val:begin_test]],
        "test": [*frames[begin_test:]],
    }


def stratified_order(categories: Mapping[str, str], seed: int) -> list[str]:
    """All names, in an order in which any first n have about the same share of each category as all."""
    of_category: dict[str, list[str]] = defaultdict(list)
    for name in sorted(categories, key=lambda name: derive_seed("held out", seed, name)):
        of_category[categories[name]].append(name)
    position = {
        name: ((rank + 0.5) / len(names), derive_seed("held out", seed, name))
        for names in of_category.values()
        for rank, name in enumerate(names)
    }
    return sorted(categories, key=position.__getitem__)


def _count(wanted: float, total: int) -> int:
    """A number, from itself or from a share of a total; a share is at least one."""
    if wanted >= 1 or wanted == 0:
        return int(wanted)
    return max(1, round(wanted * total))
