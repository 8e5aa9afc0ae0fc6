"""The processes of a run: which of them this one is, and what they do together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """How many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux alone says what a container or taskset leaves of them.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_main() -> bool:
    """Whether this is the process that the user started; Lightning starts the others with a number."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def place() -> tuple[int, int]:
    """Rank of this process and number of processes that are connected; (0, 1) while none are."""
    import torch.distributed as dist

    connected = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if connected else (0, 1)


def all_reduce_sum(values: list[Tensor]) -> list[Tensor]:
    """The sums of tensors [...], of any shapes, over all processes, in one collective; with one process the
    tensors themselves.
    """
    import torch

    if place()[1] == 1:
        return values
    flat = torch.cat([value.reshape(-1) for value in values])
    torch.distributed.all_reduce(flat)
    pieces = flat.split([value.numel() for value in values])
    return [piece.view_as(value) for piece, value in zip(pieces, values, strict=True)]


def gathered(value: T) -> list[T]:
    """The values of all processes, by rank, in every process."""
    import torch.distributed as dist

    _, world = place()
    if world == 1:
        return [value]
    values: list[T] = [value] * world
    dist.all_gather_object(values, value)
    return values


def take_turns(items: Sequence[T], work: Callable[[T], R]) -> list[R]:
    """What `work` makes of each item, in order, in every process; each item is worked on by one of them."""
    rank, world = place()
    shares = gathered([work(item) for item in items[rank::world]])
    return [shares[i % world][i // world] for i in range(len(items))]


@contextmanager
def main_first() -> Iterator[None]:
    """Let the main process run the block before the others do."""
    if not is_main():
        gathered(None)
    yield
    if is_main():
        gathered(None)
