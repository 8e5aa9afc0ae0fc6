"""Fixtures that all tests share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
GOLDENS = Path(__file__).with_name("goldens")


@pytest.fixture(scope="session")
def goldens() -> Path:
    """The folder of reference numbers for losses, meta-gradients and networks, see its README."""
    return GOLDENS


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real videos, and reference numbers for them, beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared (real videos and their reference numbers), which is not here")
    return SHARED


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """One thread: sums come out in the same order, and two cores are not oversubscribed."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Any]:
    """`helpers.config`, whose output is a folder of the test's own, tmp_path/run unless named."""
    import helpers

    return lambda *overrides, entry="train", output="run": helpers.config(
        *overrides, entry=entry, output=tmp_path / output
    )
