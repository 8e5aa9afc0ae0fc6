"""Fixtures that all tests share."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

# One thread for each worker of the tests, and for what it starts: sums come out in the same order on any
# number of cores, and workers do not take the cores from one another. Torch reads this when it is imported.
os.environ.update(OMP_NUM_THREADS="1", OPENCV_FOR_THREADS_NUM="1")

import pytest
from disk import Disk

SHARED = Path(__file__).resolve().parents[2] / "shared"
GOLDENS = Path(__file__).with_name("goldens")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that take the fixture `shared`, which decides whether they are skipped."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker("shared")


@pytest.fixture(scope="session")
def goldens() -> Path:
    """The folder of reference numbers for losses, meta-gradients and networks, see its README."""
    return GOLDENS


@pytest.fixture(scope="session")
def formula_state(goldens: Path) -> dict[str, Any]:
    """The weights that formulas give the published network, by their old names: not to be changed."""
    from formula_network import formula_weights

    layout = json.loads((goldens / "published_state_dict_layout.json").read_text())
    shapes = {name: shape for name, shape, _ in layout["layout"]}
    return {
        name: formula_weights(name, shapes["model_init_" + name.replace(".", "-")])
        for name in layout["reference_param_names"]
    }


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real videos, and reference numbers for them, beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared (real videos and their reference numbers), which is not here")
    return SHARED


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """Writes frames and masks below tmp_path."""
    return Disk(tmp_path)


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Any]:
    """`helpers.config`, whose output is a folder of the test's own, tmp_path/run unless named."""
    import helpers

    return lambda *overrides, entry="train", output="run": helpers.config(
        *overrides, entry=entry, output=tmp_path / output
    )


@pytest.fixture
def small_disk(tmp_path):
    """Make a disk of so many bytes: its folder."""
    made = []

    def make(size):
        folder = tmp_path / f"disk{len(made)}"
        folder.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
        if subprocess.run(["mount", *options], capture_output=True).returncode:
            pytest.skip("needs the right to mount a small disk")
        made.append(folder)
        return folder

    yield make
    for folder in made:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
