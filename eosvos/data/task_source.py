"""What tasks are drawn from: data sets, with one entry per (sequence, object)."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, cast

from eosvos.config.data import Tasks
from eosvos.data.sequence import VideoSequence
from eosvos.errors import SHOWN, UserError, listing

_log = logging.getLogger(__name__)


class TaskSource(Protocol):
    """One entry per (sequence, object); a list of such pairs is a task source, too."""

    def __len__(self) -> int:
        """Return the number of entries."""

    def __getitem__(self, i: int, /) -> tuple[VideoSequence, int]:
        """Return sequence and object id of entry i."""


@dataclass(frozen=True)
class TrainingSet:
    """A data set to train on: its videos, of which every object becomes an entry, or a task source.

    frame_window: the largest distance of query frames in its tasks; None: that of all tasks. weight: its
    share of the tasks, relative to the weights of others; None: its number of entries. name: "" where there
    is no other.
    """

    videos: TaskSource | Sequence[VideoSequence]
    frame_window: int | None = None
    weight: float | None = None
    name: str = ""

    def source(self, tasks: Tasks) -> TaskSource:
        """Its entries; reads masks. Raises UserError if there is none, or not what tasks are made of."""
        try:
            check_left_out(self.videos, tasks)
            if lists_videos(self.videos):
                return list_objects(cast("Sequence[VideoSequence]", self.videos), tasks)
        except UserError as error:
            raise UserError(": ".join(filter(None, [self.name, str(error)]))) from error
        return cast("TaskSource", self.videos)

    def window(self, tasks: Tasks) -> int | None:
        """The largest distance of query frames, by the numbers that name frames; None: any."""
        return tasks.frame_window if self.frame_window is None else self.frame_window

    def title(self, sequence: VideoSequence) -> str:
        """What one of its videos is called among those of others."""
        return "/".join(filter(None, [self.name, sequence.name]))


def list_objects(
    sequences: Iterable[VideoSequence], tasks: Tasks | None = None
) -> list[tuple[VideoSequence, int]]:
    """List every object of every sequence once, so that a sequence is drawn in proportion to its objects.

    tasks: which videos with one object there are. Raises UserError if nothing is there, or left. Warns of
    pictures that show none; of videos, the check of files does.
    """
    tasks = tasks or Tasks()
    by_sequence = [(sequence, sequence.training_object_ids) for sequence in sequences]
    empty = [sequence.name for sequence, ids in by_sequence if sequence.still and not ids]
    by_sequence = [(sequence, ids) for sequence, ids in by_sequence if ids]
    if not by_sequence:
        of_pictures = ", or set single_object=true where white (255) is the object, or a smaller min_area"
        raise UserError(
            "the training data have no annotated object: choose others" + of_pictures * bool(empty)
        )
    if empty:
        _log.warning("%d pictures show no object and are left out: %s", len(empty), listing(empty))
    single = {"ignore": False, "only": True}.get(tasks.single_object_videos)
    if single is not None:
        by_sequence = [(sequence, ids) for sequence, ids in by_sequence if (len(ids) == 1) == single]
    if not by_sequence:
        raise UserError(
            f"single_object_videos={tasks.single_object_videos} leaves no training video: set it to keep"
        )
    return [(sequence, object_id) for sequence, ids in by_sequence for object_id in ids]


def check_kinds(sets: Sequence[TrainingSet], sources: Sequence[TaskSource], tasks: Tasks) -> None:
    """Raise UserError if lists of videos, whose entries are `sources`, do not have what tasks are made of."""
    if not all(lists_videos(one.videos) for one in sets):
        return
    entries = (
        (one, source[i][0]) for one, source in zip(sets, sources, strict=True) for i in range(len(source))
    )
    videos = {one.title(sequence): sequence for one, sequence in entries}
    if tasks.single_object_videos == "augment" and len(videos) == 1:
        raise UserError(
            "single_object_videos=augment needs a second training video to take an object from: "
            "set it to keep"
        )
    if tasks.object_groups and all(len(video.training_object_ids) < 2 for video in videos.values()):
        raise UserError(
            f"object_groups={tasks.object_groups}, but no training video has two objects: set it to 0"
        )


def lists_videos(train: Any) -> bool:
    """Whether training data are a list of sequences, and not a source of (sequence, object) pairs."""
    return len(train) == 0 or isinstance(train[0], VideoSequence)


def check_left_out(train: Any, tasks: Tasks) -> None:
    """Raise UserError if videos would have to be left out of a task source, which only lists can do."""
    if tasks.single_object_videos in ("ignore", "only") and not lists_videos(train):
        raise UserError(
            f"single_object_videos={tasks.single_object_videos} needs a list of training videos: procedural "
            "ones need a number, train.num_videos"
        )


def check_query_frames(sequences: Sequence[VideoSequence], tasks: Tasks) -> None:
    """Raise UserError if the training videos do not have the query frames that tasks need.

    Every video must have at least tasks.query_frames masks. In at least one video, two frames with masks must
    lie within tasks.frame_window of each other. In other videos the query frame is the support frame, and
    nothing is learned about later frames: a warning counts them. Still pictures stand for several frames by
    being warped, which tasks.augment must do.
    """
    videos = [sequence for sequence in sequences if not sequence.still]
    if len(videos) < len(sequences) and not _warps(tasks):
        raise UserError(
            "the query frame of a still picture is another warp of it, and augment has none: set "
            "augment.rotation, shift, shear or elastic above 0, or scale_min below scale_max"
        )
    for sequence in videos:
        count = len(sequence.annotated_frames)
        if tasks.query_frames > count:
            raise UserError(
                f"query_frames={tasks.query_frames}, but sequence {sequence.name} has masks for {count}: "
                "ask for fewer, or leave it out of the training videos"
            )
    lone = [sequence.name for sequence in videos if not _has_pair(sequence, tasks.frame_window)]
    window = "" if tasks.frame_window is None else f" within frame_window={tasks.frame_window}"
    if lone and len(lone) == len(sequences):
        raise UserError(
            f"no training video has two frames with masks{window}, so that tasks have no other frame than "
            "the given one to learn from: give more masks, or a larger window"
        )
    if lone:
        more = ", ..." * (len(lone) > SHOWN)
        _log.warning(
            "%d of %d training videos do not have two frames with masks%s, and teach nothing about later "
            "frames: %s",
            len(lone),
            len(videos),
            window,
            ", ".join(lone[:SHOWN]) + more,
        )


def _warps(tasks: Tasks) -> bool:
    """Whether two frames of a task are warped in different ways."""
    augment = tasks.augment
    if augment is None:
        return False
    ranges = (augment.rotation, augment.shift, augment.shear, augment.elastic)
    return any(ranges) or augment.scale_min < augment.scale_max


def _has_pair(sequence: VideoSequence, frame_window: int | None) -> bool:
    """Whether two annotated frames lie within the window of each other."""
    numbers = sequence.frame_numbers
    times = sorted(numbers[t] for t in sequence.annotated_frames)
    return any(frame_window is None or late - early <= frame_window for early, late in pairwise(times))
