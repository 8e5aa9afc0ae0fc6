"""The real commands, each in a process of its own."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any

from helpers import ROOT

STARTS = Path(__file__).with_name("starts")

PATIENCE = 1000
"""Seconds after which a process hangs, on however busy a machine."""


@cache
def server() -> str:
    """The socket of starts/server.py, which lives as long as this process."""
    path = Path(tempfile.mkdtemp(prefix="eosvos-"), "starts")
    process = Popen([sys.executable, str(STARTS / "server.py"), str(path)], stdin=subprocess.PIPE)
    atexit.register(shutil.rmtree, path.parent)
    wait_for(path, process)
    return str(path)


def started(folder: Path, script: str, *words: str, python: tuple[str, ...] = (), **options: Any) -> Popen:
    """Start a script of the repository in a folder, with W&B offline.

    On Linux it begins as a fork of a process that has imported all (starts/server.py), for importing takes
    seconds; with options of Python, `python`, it is started as a user does. options: those of Popen.
    """
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    environment.pop("HYDRA_FULL_ERROR", None)
    if not python and hasattr(os, "pidfd_open"):
        path = os.pathsep.join([str(STARTS), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment.update(PYTHONPATH=path, EOSVOS_TEST_STARTS=server())
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
