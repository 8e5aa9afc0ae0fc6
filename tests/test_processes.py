"""What processes do together: each test runs two real ones, connected by gloo."""

import os
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from eosvos.processes import all_reduce_sum, cores, gathered, is_main, main_first, place, take_turns


def connected(rank, port, work, folder):
    """Be one of two processes, and keep what the work returns."""
    os.environ.update(LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    torch.save(work(folder), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture
def two_processes(tmp_path):
    """Run a function of a folder in two processes: what each of them returns."""

    def run(work):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        mp.start_processes(connected, (port, work, tmp_path), nprocs=2, start_method="fork")
        return [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]

    return run


def sums(folder):
    rank, _ = place()
    return all_reduce_sum([torch.full((2, 3), rank + 1.0), torch.tensor(10.0 * rank)])


def test_sums_are_those_of_all_processes(two_processes):
    for matrix, scalar in two_processes(sums):
        assert torch.equal(matrix, torch.full((2, 3), 3.0))
        assert scalar == 10


def turns(folder):
    done = []
    squares = take_turns(range(5), lambda n: (done.append(n), n * n)[1])
    return squares, done, gathered(place()[0]), take_turns([], lambda n: n)


def test_each_item_is_worked_on_once_and_all_know_the_outcome(two_processes):
    (first, mine, ranks, nothing), (second, its, *_) = two_processes(turns)
    assert first == second == [0, 1, 4, 9, 16]
    assert (mine, its) == ([0, 2, 4], [1, 3])
    assert ranks == [0, 1]
    assert nothing == []


def main_writes(folder):
    with main_first():
        found = (folder / "written").exists()
        if is_main():
            (folder / "written").touch()
    return found


def test_the_others_wait_for_the_main_process(two_processes):
    assert two_processes(main_writes) == [False, True]


def test_one_process_needs_no_connection():
    values = [torch.ones(2)]
    assert place() == (0, 1)
    assert is_main()
    assert all_reduce_sum(values) is values
    assert gathered("alone") == ["alone"]
    assert take_turns([3, 4], str) == ["3", "4"]


def test_cores_are_those_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 5, 6}, raising=False)
    assert cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert cores() == 7
