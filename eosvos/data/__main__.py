"""`python -m eosvos.data check ROOT --layout davis2017`: decode every file and list the defects."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from eosvos.config.data import Davis, Folder, YouTubeVOS
from eosvos.data.davis import davis_sequences, davis_splits
from eosvos.data.defects import all_defects, unscored_objects
from eosvos.data.files import FileSequence
from eosvos.data.folder import folder_sequences
from eosvos.data.youtube_vos import youtube_vos_sequences
from eosvos.errors import UserError


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m eosvos.data", description="Check data sets.")
    check = parser.add_subparsers(dest="command", required=True).add_parser(
        "check", help="decode every frame and mask and list what is wrong; exit status 1 if anything is"
    )
    check.add_argument("root", help="the folder of the data set; for layout folder, of the frames")
    check.add_argument("--layout", required=True, choices=["davis2016", "davis2017", "folder", "youtube_vos"])
    check.add_argument("--masks", help="layout folder: where the masks are (default: masks beside ROOT)")
    check.add_argument("--split", help="one list of ImageSets, or train, valid ... (default: all, or train)")
    check.add_argument("--resolution", default="480p", help="layout davis: 480p, 1080p or Full-Resolution")
    check.add_argument("--sequences", nargs="+", metavar="NAME", help="some sequences only")
    return parser.parse_args(arguments)


def _list(options: argparse.Namespace, defects: dict[str, str]) -> Sequence[FileSequence]:
    """What can be listed; what cannot is added to `defects`, by name."""
    root, sequences = options.root, options.sequences
    if options.layout == "folder":
        masks = options.masks or str(Path(root).parent / "masks")
        return folder_sequences(Folder(images=root, masks=masks, sequences=sequences), defects)
    if options.layout == "youtube_vos":
        split = options.split or "train"
        return youtube_vos_sequences(YouTubeVOS(root=root, split=split, sequences=sequences), defects)
    year = options.layout.removeprefix("davis")
    davis = Davis(
        root=root, year=year, resolution=options.resolution, split=options.split, sequences=sequences
    )
    if options.split or sequences:
        return davis_sequences(davis, defects)
    # Lists first: they know of frames that are missing at the end of a video.
    found: dict[str, FileSequence] = {}
    for split in (*davis_splits(davis), None):
        listed = davis_sequences(davis.model_copy(update={"split": split}), defects)
        found = {video.name: video for video in listed} | found
    return list(found.values())


def _counted(listed: Iterable[Path]) -> str:
    """How many files there are, and of how many."""
    there = [path.is_file() for path in listed]
    return _of(sum(there), len(there))


def _of(there: int, listed: int) -> str:
    return str(there) if there == listed else f"{there} of {listed}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a data set; return the exit status: 0 in order, 1 with defects, 2 if nothing can be listed."""
    unlisted: dict[str, str] = {}
    try:
        sequences = _list(_parse(arguments), unlisted)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    count = 0
    for defect in chain(unlisted.values(), *map(all_defects, sequences)):
        print(defect, flush=True)
        count += 1
    for note in chain(*map(unscored_objects, sequences)):
        print(note)
    frames = _counted(path for sequence in sequences for path in sequence.frames)
    masks = _counted(path for sequence in sequences for path in sequence.masks.values())
    print(
        f"{_of(len(sequences), len(sequences) + len(unlisted))} sequences, {frames} frames, {masks} masks: "
        f"{count or 'no'} defect{'s' * (count != 1)}"
    )
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
