"""`python -m eosvos.data check`: decode every file of a data set and list the defects."""

import argparse
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from pydantic import ValidationError

from eosvos.config.data import VOC2012, Coco, Davis, Folder, Images, YouTubeVOS
from eosvos.config.validation import sentence
from eosvos.data.coco import coco_stills
from eosvos.data.davis import davis_sequences, davis_splits
from eosvos.data.defects import all_defects, unscored_objects
from eosvos.data.files import FileSequence
from eosvos.data.folder import folder_sequences
from eosvos.data.stills import image_stills, voc_stills
from eosvos.data.youtube_vos import youtube_vos_sequences
from eosvos.errors import UserError

_LAYOUTS = ("davis2016", "davis2017", "youtube_vos", "folder", "images", "voc2012", "coco")


def add_arguments(check: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    check.add_argument("root", help="the folder of the data set; for coco, of the pictures")
    check.add_argument("--layout", required=True, choices=_LAYOUTS)
    check.add_argument("--masks", help="layout folder: where the masks are (default: masks beside ROOT)")
    check.add_argument("--annotations", help="layout coco: the JSON file")
    check.add_argument("--single-object", action="store_true", help="layout images: dataset.single_object")
    check.add_argument("--split", help="one list of ImageSets, or train, valid ... (default: all, or train)")
    check.add_argument("--resolution", default="480p", help="layout davis: 480p, 1080p or Full-Resolution")
    check.add_argument("--sequences", nargs="+", metavar="NAME", help="some sequences or pictures only")


def run(options: argparse.Namespace) -> int:
    """Check a data set; return the exit status: 0 in order, 1 with defects.

    Raises UserError if nothing can be listed.
    """
    unlisted: dict[str, str] = {}
    try:
        sequences = _list(options, unlisted)
    except ValidationError as error:
        given = {**vars(options), "images": options.root}
        raise UserError(sentence(error, given, given)) from None
    count = 0
    for defect in chain(unlisted.values(), *map(all_defects, sequences)):
        print(defect, flush=True)
        count += 1
    for note in chain(*map(unscored_objects, sequences)):
        print(note)
    if empty := sum(sequence.lists_no_object for sequence in sequences):
        print(f"{empty} pictures have no instance, and training leaves them out")
    frames = _counted(path for sequence in sequences for path in sequence.frames)
    masks = _counted(path for sequence in sequences for path in sequence.masks.values())
    print(
        f"{_of(len(sequences), len(sequences) + len(unlisted))} sequences, {frames} frames, {masks} masks: "
        f"{count or 'no'} defect{'s' * (count != 1)}"
    )
    return int(count > 0)


def _list(options: argparse.Namespace, defects: dict[str, str]) -> Sequence[FileSequence]:
    """What can be listed; what cannot is added to `defects`, by name."""
    if options.layout.startswith("davis"):
        return _list_davis(options, defects)
    root, sequences, split = options.root, options.sequences, options.split
    if options.layout == "youtube_vos":
        youtube_vos = YouTubeVOS(root=root, split=split or "train", sequences=sequences)
        return youtube_vos_sequences(youtube_vos, defects)
    if options.layout == "images":
        images = Images(root=root, sequences=sequences, single_object=options.single_object)
        return image_stills(images, defects)
    if options.layout == "voc2012":
        return voc_stills(VOC2012(root=root, split=split or "trainval", sequences=sequences), defects)
    if options.layout == "coco":
        if not options.annotations:
            raise UserError("layout coco needs its JSON file: give it, --annotations FILE")
        coco = Coco(images=root, annotations=options.annotations, sequences=sequences, min_area=0.0)
        return coco_stills(coco, defects)
    if (Path(root) / "JPEGImages").is_dir() and not options.masks:
        return folder_sequences(Folder(root=root, sequences=sequences), defects)
    masks = options.masks or str(Path(root).parent / "masks")
    return folder_sequences(Folder(images=root, masks=masks, sequences=sequences), defects)


def _list_davis(options: argparse.Namespace, defects: dict[str, str]) -> Sequence[FileSequence]:
    """The same, of DAVIS."""
    sequences = options.sequences
    year = options.layout.removeprefix("davis")
    davis = Davis(
        root=options.root, year=year, resolution=options.resolution, split=options.split, sequences=sequences
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
