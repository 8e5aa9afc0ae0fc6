"""Two real processes, connected by gloo, of which each does the same work."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

# Forked from a process that has imported all and computed nothing: importing takes seconds, and autograd's
# threads for a GPU do not survive a fork.
multiprocessing.set_forkserver_preload(["eosvos.training.train"])


def connected(rank: int, work: Callable[[Path], Any], folder: Path) -> None:
    """Be one of two processes, and keep what the work returns."""
    os.environ["LOCAL_RANK"] = str(rank)
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.save(work(folder), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def of_two_processes(work: Callable[[Path], Any], folder: Path) -> list[Any]:
    """What `work`, a function of a module and of a folder, returns in each."""
    mp.start_processes(connected, (work, folder), nprocs=2, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
