"""Pools: what tasks are drawn from, one entry per (sequence, object)."""

import logging
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Protocol

from eosvos.data.sequence import VideoSequence
from eosvos.errors import SHOWN, UserError

_log = logging.getLogger(__name__)


class TaskPool(Protocol):
    """One entry per (sequence, object); lists of such pairs are pools, too."""

    def __len__(self) -> int:
        """Return the number of entries."""

    def __getitem__(self, i: int, /) -> tuple[VideoSequence, int]:
        """Return sequence and object id of entry i."""


def sequence_pool(sequences: Iterable[VideoSequence]) -> list[tuple[VideoSequence, int]]:
    """List every object of every sequence once: sampling is proportional to the number of objects.

    Raises UserError if there is none.
    """
    pool = [(sequence, object_id) for sequence in sequences for object_id in sequence.listed_ids]
    if not pool:
        raise UserError("the training data have no annotated object: choose another dataset.train")
    return pool


def check_queries(sequences: Sequence[VideoSequence], query_frames: int, frame_window: int | None) -> None:
    """Raise UserError if training videos have not the query frames that tasks are to be drawn with.

    A video must have as many masks. And in some video a frame with a mask must lie within the window of
    another: elsewhere a task is judged on the frame that it was fine-tuned on, and nothing is learned about
    later frames; of how many videos this is so is said in a warning.
    """
    for sequence in sequences:
        count = len(sequence.annotated_frames)
        if query_frames > count:
            raise UserError(
                f"dataset.query_frames={query_frames}, but sequence {sequence.name} has masks for {count}: "
                "ask for fewer, or leave it out of dataset.train.sequences"
            )
    lone = [sequence.name for sequence in sequences if not _has_pair(sequence, frame_window)]
    window = f" within dataset.frame_window={frame_window}" * (frame_window is not None)
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
