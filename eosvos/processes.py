"""The processes of a run: which of them this one is, and what they do together."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from subprocess import Popen
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from eosvos.errors import Interrupted, UserError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
R = TypeVar("R")

# How long processes wait for one another: one may segment a video for days when all others are done. It is
# not this that ends the others when one dies: Lightning's observer kills all when one fails that the main one
# has started, these end with the main one (`kill_with_rank_zero`), and torchrun and SLURM see to theirs. In
# milliseconds it is below 2^31, what poll(2) takes.
TIMEOUT = timedelta(weeks=2)
# The number of the main process, in the environment of those that it starts.
MAIN = "EOSVOS_MAIN"
# Where Linux (cgroup v2) says how much processor time a container gets in how much time, or max.
QUOTA = Path("/sys/fs/cgroup/cpu.max")
# What `interrupt` has raised; the first counts.
_interruptions: list[Interrupted] = []


def cores() -> int:
    """How many CPU cores this process may use; on Linux what taskset and a container's limits leave."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit, period = QUOTA.read_text().split() if QUOTA.is_file() else ("max", "1")
    return found if limit == "max" else max(1, min(found, int(limit) // int(period)))


def is_rank_zero() -> bool:
    """Whether this is the process that the user started, or the first that a launcher did.

    It is known before processes are connected: torchrun, Lightning and srun leave it in the environment.
    """
    numbers = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return next(filter(None, numbers), "0") == "0"


def take_signals(handler: Any) -> dict[int, Any]:
    """Handle Ctrl-C and SIGTERM in this process; returns the handlers before, by signal."""
    return {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}


def take_signals_alone(handler: Any) -> None:
    """Handle them in the main process; the others ignore them, for it waits until they are connected.

    They end when the main one is gone that has started them.
    """
    take_signals(handler if is_rank_zero() else signal.SIG_IGN)
    if not is_rank_zero() and os.environ.get(MAIN) == str(os.getppid()):
        _watch_parent()


def take_signals_once_connected() -> None:
    """Let a signal end a process beside the main one, too, now that the main one notices its end."""
    if not is_rank_zero():
        take_signals(interrupt)


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """A handler that raises Interrupted, wherever the program is."""
    _interruptions.append(Interrupted(number, f"stopped by {signal.Signals(number).name}"))
    raise _interruptions[0]


def interruption() -> Interrupted | None:
    """What `interrupt` has raised, if it was called: code that catches everything may have lost it."""
    return next(iter(_interruptions), None)


def raise_if_interrupted() -> None:
    """Raise Interrupted again where it was lost; long loops call it."""
    if lost := interruption():
        raise lost


def forget_signals() -> None:
    """Let the interruption be over: what it ends has ended."""
    _interruptions.clear()


def abort_all_ranks(
    reason: str, number: int | None = None, error: type[BaseException] = UserError
) -> NoReturn:
    """End this process for a reason that all of them know: the main one raises an error, the others exit.

    number: of the signal that is the reason, if it is one; then it is Interrupted that the main one raises.
    """
    if is_rank_zero():
        raise error(reason) if number is None else Interrupted(number, reason)
    sys.exit()


def kill_with_rank_zero(others: Callable[[], list[Popen[Any]]]) -> None:
    """End the processes that this one has started when it ends, for whatever reason: they would wait for it.

    others: is asked when this process exits; the list is emptied. Where it is killed, they notice themselves.
    """
    if is_rank_zero():
        os.environ[MAIN] = str(os.getpid())

    def end() -> None:
        processes = others()
        running = processes.copy()
        # Lightning watches the list, and would kill this process after one of them.
        processes.clear()
        for process in running:
            process.kill()

    atexit.register(end)


@cache
def _watch_parent() -> None:
    """Kill this process once its parent is gone: in a collective on a GPU, it might not notice."""
    parent = os.getppid()

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def end_with_parent() -> None:
    """Kill this process once the one that has started it, and holds its standard input, is gone."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def rank_and_world_size() -> tuple[int, int]:
    """Rank of this process and number of processes that are connected; (0, 1) while none are."""
    import torch.distributed as dist

    connected = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if connected else (0, 1)


def all_reduce_sum(values: list[Tensor]) -> list[Tensor]:
    """The sums of tensors [...], of any shapes, over all processes, in one collective; with one process the
    tensors themselves.
    """
    import torch

    if rank_and_world_size()[1] == 1:
        return values
    flat = torch.cat([value.reshape(-1) for value in values])
    torch.distributed.all_reduce(flat)
    pieces = flat.split([value.numel() for value in values])
    return [piece.view_as(value) for piece, value in zip(pieces, values, strict=True)]


def all_gather(value: T) -> list[T]:
    """The values of all processes, by rank, in every process."""
    import torch.distributed as dist

    _, world = rank_and_world_size()
    if world == 1:
        return [value]
    values: list[T] = [value] * world
    dist.all_gather_object(values, value)
    return values


def map_across_ranks(items: Sequence[T], work: Callable[[T], R]) -> list[R]:
    """What `work` makes of each item, in order, in every process; each item is worked on by one of them.

    A UserError in one of them ends all.
    """
    rank, world = rank_and_world_size()
    made, reason = [], ""
    try:
        made = [work(item) for item in items[rank::world]]
    except UserError as error:
        reason = str(error)
    shares, reasons = zip(*all_gather((made, reason)), strict=True)
    if any(reasons):
        abort_all_ranks(next(filter(None, reasons)))
    return [shares[i % world][i // world] for i in range(len(items))]


def broadcast_from_rank_zero(make: Callable[[], R]) -> R:
    """What the main process makes, in every process; a UserError in it ends all."""
    return map_across_ranks([None], lambda _: make())[0]
