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

from helpers import ROOT

STARTS = Path(__file__).with_name("starts")

PATIENCE = 1000
"""Seconds after which a process hangs, on however busy a machine."""


@cache
def server() -> str:
    """The socket of starts/server.py, which lives as long as this process."""
    path = Path(tempfile.mkdtemp(prefix="eosvos-"), "starts")
    line = [sys.executable, str(STARTS / "server.py"), str(path)]
    process = Popen(line, stdin=subprocess.PIPE, start_new_session=True)

    def end() -> None:
        process.communicate()
        shutil.rmtree(path.parent)

    atexit.register(end)
    wait_for(path, process)
    return str(path)


def started(
    folder: Path, script: str, *words: str, python: tuple[str, ...] = (), group: bool = False
) -> Popen:
    """Start a script of the repository in a folder, with W&B offline.

    It begins as a fork of a process that has imported all (starts/server.py), for importing takes seconds;
    with options of Python, `python`, it is started as a user does. group: in a process group of its
    own, with all that it starts, for os.killpg.
    """
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    environment.pop("HYDRA_FULL_ERROR", None)
    if not python:
        path = os.pathsep.join([str(STARTS), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment.update(PYTHONPATH=path, EOSVOS_TEST_STARTS=server(), EOSVOS_TEST_GROUP="1" * group)
    line = [sys.executable, *python, str(ROOT / script), *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return Popen(line, cwd=folder, env=environment, start_new_session=group, **pipes)


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
