"""Two real processes, connected by gloo, of which each does the same work.

`python ranks.py RANK FILE FUNCTION FOLDER` is one of them.
"""

import inspect
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from commands import PATIENCE, started


def of_two_processes(work: Callable[[Path], Any], folder: Path) -> list[Any]:
    """What `work`, a function of a module and of a folder, returns in each."""
    words = (inspect.getfile(work), work.__name__, str(folder))
    processes = [started(folder, "tests/ranks.py", str(rank), *words) for rank in (0, 1)]
    for process in processes:
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def connected(rank: int, work: Callable[[Path], Any], folder: Path) -> None:
    """Be one of two processes, and keep what the work returns."""
    os.environ["LOCAL_RANK"] = str(rank)
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.save(work(folder), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    rank, file, function, folder = sys.argv[1:]
    sys.path.append(str(Path(file).parent))
    connected(int(rank), getattr(import_module(Path(file).stem), function), Path(folder))
