"""The real commands, each in a process of its own: few tests start one, for importing torch takes seconds."""

import os
import subprocess
import sys
import time
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any

from helpers import ROOT

PATIENCE = 1000
"""Seconds after which a process hangs, on however busy a machine."""


def started(folder: Path, script: str, *words: str, python: tuple[str, ...] = (), **options: Any) -> Popen:
    """Start a script of the repository in a folder, with W&B offline.

    python: options of Python. options: those of Popen.
    """
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    environment.pop("HYDRA_FULL_ERROR", None)
    line = [sys.executable, *python, str(ROOT / script), *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return Popen(line, cwd=folder, env=environment, **pipes, **options)


def command(folder: Path, script: str, *words: str, python: tuple[str, ...] = ()) -> CompletedProcess:
    """Run a script to its end; what it wrote is in stdout and stderr."""
    process = started(folder, script, *words, python=python)
    written = process.communicate(timeout=PATIENCE)
    return CompletedProcess(process.args, process.returncode, *written)


def wait_for(path: Path, process: Popen) -> None:
    """Wait until a command has written a file."""
    until = time.monotonic() + PATIENCE
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
