"""Two real processes, connected by gloo, of which each does the same work.

`python ranks.py RANK FILE FUNCTION FOLDER` is one of them.
"""

import inspect
import os
import sys
import time
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
    until = time.monotonic() + PATIENCE
    while None in (ends := [process.poll() for process in processes]) and not any(ends):
        assert time.monotonic() < until
        time.sleep(0.02)
    for process in processes:
        # The other one would wait for one that has failed.
        process.kill()
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
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
