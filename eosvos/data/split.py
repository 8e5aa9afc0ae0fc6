"""`python -m eosvos.data split`: divide the training videos into train, val and test."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eosvos.config.build import build
from eosvos.config.compose import composed
from eosvos.data.split_file import divide, write_split
from eosvos.errors import UserError


def add_arguments(split: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    split.add_argument(
        "overrides", nargs="+", help="as of train.py; dataset.split_file=FILE says where to write the split"
    )
    for part in ("val", "test"):
        split.add_argument(
            f"--{part}", type=_amount, default=0.1, help="how many videos, or, below 1, what share of them"
        )
    split.add_argument("--seed", type=int, default=0, help="the same seed gives the same split")
    split.add_argument(
        "--clips-apart",
        action="store_true",
        help="let videos whose names differ only in a number at the end (X_0, X_1) come into different parts",
    )


def run(options: argparse.Namespace) -> int:
    """Write the split of each data set that names a file, and say how large its parts are."""
    sources = composed(options.overrides).dataset.sources.values()
    chosen = [train for source in sources if (train := source.train or {}).get("split_file") is not None]
    if not chosen:
        raise UserError(
            "the file to write is needed: give it, dataset.split_file=FILE, or dataset.NAME.split_file=FILE "
            "of one of several data sets; it has to lie in files"
        )
    for train in chosen:
        _divide(train, options)
    return 0


def _divide(train: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Divide the videos of a data set, as training asks for them."""
    undivided = {key: None for key in ("split_file", "part", "divide") if key in train}
    videos = build({**train, **undivided})
    # Pictures are often called by numbers that say nothing.
    together = not options.clips_apart and not any(video.still for video in videos)
    # Videos of YouTube-VOS know the category of each object.
    categories = {video.name: next(iter(getattr(video, "categories", {}).values()), "") for video in videos}
    remedy = "choose other numbers, or take clips of one video apart (--clips-apart)"
    parts = divide(categories, options.val, options.test, options.seed, together, remedy)
    path = Path(train["split_file"])
    made_by = {"overrides": options.overrides, "seed": options.seed, "clips_together": together}
    write_split(path, parts, made_by)
    print(f"{path}: {', '.join(f'{len(names)} {part}' for part, names in parts.items())}")


def _amount(text: str) -> float:
    amount = float(text)
    if amount < 0 or (amount > 1 and amount != int(amount)):
        raise argparse.ArgumentTypeError(f"{text} is neither a number of videos nor a share of them")
    return amount
