"""What processes do together: each test runs two real ones, connected by gloo."""

import os
import subprocess
import sys
from datetime import timedelta

import pytest
import torch
from commands import PATIENCE
from helpers import ROOT
from ranks import of_two_processes

from eosvos.errors import UserError
from eosvos.processes import (
    TIMEOUT,
    all_gather,
    all_reduce_sum,
    broadcast_from_rank_zero,
    cores,
    is_rank_zero,
    map_across_ranks,
    rank_and_world_size,
)


@pytest.fixture
def two_processes(tmp_path):
    """Run a function of a folder in two processes: what each of them returns."""
    return lambda work: of_two_processes(work, tmp_path)


def sums(folder):
    rank, _ = rank_and_world_size()
    return all_reduce_sum([torch.full((2, 3), rank + 1.0), torch.tensor(10.0 * rank)])


def test_sums_are_those_of_all_processes(two_processes):
    for matrix, scalar in two_processes(sums):
        assert torch.equal(matrix, torch.full((2, 3), 3.0))
        assert scalar == 10


def turns(folder):
    done = []
    squares = map_across_ranks(range(5), lambda n: (done.append(n), n * n)[1])
    return squares, done, all_gather(rank_and_world_size()[0]), map_across_ranks([], lambda n: n)


def test_each_item_is_worked_on_once_and_all_know_the_outcome(two_processes):
    (first, mine, ranks, nothing), (second, its, *_) = two_processes(turns)
    assert first == second == [0, 1, 4, 9, 16]
    assert (mine, its) == ([0, 2, 4], [1, 3])
    assert ranks == [0, 1]
    assert nothing == []


def counted_by_main(folder):
    def count():
        (folder / f"made by {rank_and_world_size()[0]}").touch()
        return 7

    return broadcast_from_rank_zero(count), sorted(path.name for path in folder.glob("made*"))


def test_what_the_main_process_makes_all_have(two_processes):
    assert two_processes(counted_by_main) == [(7, ["made by 0"])] * 2


def failing(folder):
    def work(item):
        if item == 1:  # The second process's.
            raise UserError("frame 1 is broken")

    try:
        map_across_ranks(range(2), work)
    except UserError as error:
        return f"says: {error}"
    except SystemExit as ended:
        return f"ends silently with {ended.code or 0}"


def test_bad_input_in_one_process_ends_all_and_the_main_one_says_it(two_processes):
    assert two_processes(failing) == ["says: frame 1 is broken", "ends silently with 0"]


OTHER = """
import time
from eosvos.processes import interrupt, take_signals_alone
take_signals_alone(interrupt)
print("ready", flush=True)
time.sleep(30)
print("left over")
"""
MAIN = f"""
import os, subprocess, sys, time
from eosvos.processes import kill_with_rank_zero
kill_with_rank_zero(list)
subprocess.Popen([sys.executable, "-c", {OTHER!r}], env={{**os.environ, "LOCAL_RANK": "1"}})
time.sleep(60)
"""


def test_the_others_end_when_the_main_one_is_killed():
    main = subprocess.Popen([sys.executable, "-c", MAIN], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert main.stdout.readline() == "ready\n"
    main.kill()
    # At an end when nobody is left who could write.
    assert main.communicate(timeout=PATIENCE)[0] == ""


def test_processes_wait_for_days_for_one_with_a_long_video():
    assert timedelta(days=7) < TIMEOUT
    assert TIMEOUT / timedelta(milliseconds=1) < 2**31, "poll(2) takes a C int"


def test_one_process_needs_no_connection():
    values = [torch.ones(2)]
    assert rank_and_world_size() == (0, 1)
    assert is_rank_zero()
    assert all_reduce_sum(values) is values
    assert all_gather("alone") == ["alone"]
    assert map_across_ranks([3, 4], str) == ["3", "4"]


@pytest.mark.parametrize(
    ("left", "main"),
    [
        ({}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"RANK": "4", "LOCAL_RANK": "0"}, False),
        ({"SLURM_PROCID": "2"}, False),
        ({"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False),
        ({"SLURM_PROCID": "0"}, True),
    ],
)
def test_launchers_say_which_process_is_the_main_one(monkeypatch, left, main):
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    assert is_rank_zero() == main


def test_cores_are_those_that_this_process_may_use(monkeypatch, tmp_path):
    monkeypatch.setattr("eosvos.processes.QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 5, 6}, raising=False)
    assert cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert cores() == 7


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", 3),
        ("200000 100000", 2),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("800000 100000", 3),
    ],
)
def test_a_container_may_use_as_many_cores_as_its_quota_has_time_for(monkeypatch, tmp_path, quota, expected):
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr("eosvos.processes.QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 5, 6}, raising=False)
    assert cores() == expected
