"""Task sources: what tasks are drawn from, one entry per (sequence, object)."""

import logging
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Protocol

from eosvos.config.data import Tasks
from eosvos.data.sequence import VideoSequence
from eosvos.errors import SHOWN, UserError

_log = logging.getLogger(__name__)


class TaskSource(Protocol):
    """One entry per (sequence, object); a list of such pairs is a task source, too."""

    def __len__(self) -> int:
        """Return the number of entries."""

    def __getitem__(self, i: int, /) -> tuple[VideoSequence, int]:
        """Return sequence and object id of entry i."""


def list_objects(sequences: Iterable[VideoSequence]) -> list[tuple[VideoSequence, int]]:
    """List every object of every sequence once, so that a sequence is drawn in proportion to its objects.

    Raises UserError if there is none.
    """
    objects = [(sequence, object_id) for sequence in sequences for object_id in sequence.training_object_ids]
    if not objects:
        raise UserError("the training data have no annotated object: choose other training videos")
    return objects


def check_query_frames(sequences: Sequence[VideoSequence], tasks: Tasks) -> None:
    """Raise UserError if the training videos do not have the query frames that tasks need.

    Every video must have at least tasks.query_frames masks. In at least one video, two frames with masks must
    lie within tasks.frame_window of each other. In other videos the query frame is the support frame, and
    nothing is learned about later frames: a warning counts them.
    """
    for sequence in sequences:
        count = len(sequence.annotated_frames)
        if tasks.query_frames > count:
            raise UserError(
                f"query_frames={tasks.query_frames}, but sequence {sequence.name} has masks for {count}: "
                "ask for fewer, or leave it out of the training videos"
            )
    lone = [sequence.name for sequence in sequences if not _has_pair(sequence, tasks.frame_window)]
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
            len(sequences),
            window,
            ", ".join(lone[:SHOWN]) + more,
        )


def _has_pair(sequence: VideoSequence, frame_window: int | None) -> bool:
    """Whether two annotated frames lie within the window of each other."""
    times = sorted(sequence.frame_numbers[t] for t in sequence.annotated_frames)
    return any(frame_window is None or late - early <= frame_window for early, late in pairwise(times))
