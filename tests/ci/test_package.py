"""The package as its users install it."""

import os
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from helpers import LIGHT, SMALL

ROOT = Path(__file__).resolve().parents[2]
BOTH_COMMANDS = """
import os, sys
import eosvos.commands as commands
assert commands.__file__.startswith(os.environ["PYTHONPATH"])
words = sys.argv[1:]
sys.argv[1:] = [*words, "iterations=1", "hydra.run.dir=run"]
commands.train()
sys.argv[1:] = [*words, "checkpoint=run/checkpoints/last.ckpt", "results=out", "hydra.run.dir=evaluation"]
commands.evaluate()
"""


def test_the_package_says_that_it_is_typed_and_holds_that_file():
    assert files("eosvos").joinpath("py.typed").is_file()


@pytest.mark.slow
def test_the_wheel_works_without_the_checkout(tmp_path):
    """Built, installed elsewhere, and run for a step from another folder."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.fail("uv builds the wheel, and is not there")
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", tmp_path / "dist", ROOT], check=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    subprocess.run([uv, "pip", "install", "--quiet", "--no-deps", "--target", site, wheel], check=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(site)}
    words = [*SMALL, LIGHT, "dataset.test.num_videos=1", "trainer.devices=1"]
    done = subprocess.run(
        [sys.executable, "-c", BOTH_COMMANDS, *words],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(list((elsewhere / "out").glob("*/*.png"))) == 3
    assert (site / "eosvos" / "py.typed").is_file()
    assert {path.name for path in (site / "bin").iterdir()} >= {
        "eosvos-train",
        "eosvos-evaluate",
        "eosvos-app",
    }
