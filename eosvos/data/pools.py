"""Pools: what tasks are drawn from, one entry per (sequence, object)."""

from collections.abc import Iterable
from typing import Protocol

from eosvos.data.sequence import VideoSequence
from eosvos.errors import UserError


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
