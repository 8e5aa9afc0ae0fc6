"""Fixtures that all tests share."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference numbers and real videos beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared (reference numbers and real videos), which is not here")
    return SHARED


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """One thread: sums come out in the same order, and two cores are not oversubscribed."""
    import torch

    torch.set_num_threads(1)
