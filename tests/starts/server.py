"""Starts commands for the tests, each in a fork of this process, which has imported what they import.

    python server.py SOCKET

Importing takes most of the time of a short command. One that is started with this folder in PYTHONPATH, and
each that it starts in its turn, asks here to be begun (sitecustomize.py), and gets its arguments, folder,
environment, standard streams and signals; its stand-in ends as it does. What differs from a Python of its
own: all have one seed of hashes, a KeyboardInterrupt that nobody catches ends with status 1, and what was
registered with atexit by an import is not called. The server ends with its standard input.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from select import select
from typing import Any

import eosvos.evaluation.evaluate
import eosvos.training.train  # noqa: F401


def next_command(path: str) -> dict[str, Any]:
    """Serve at a socket. Returns in the fork for each command, with its standard streams: what was asked."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{path}.new")
    listener.listen()
    # Whoever sees it can connect.
    os.rename(f"{path}.new", path)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while sys.stdin not in select([listener, sys.stdin], [], [])[0]:
        asking, _ = listener.accept()
        if not os.fork():
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            streams = socket.recv_fds(asking, 1, 3)[1]
            request = json.loads(asking.makefile().readline())
            if pid := os.fork():
                watch(asking, pid, os.killpg if request["group"] else os.kill)
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            asking.close()
            # A group of its own, with what it starts.
            os.setsid()
            return request
        asking.close()
    gc.unfreeze()
    sys.exit()


def watch(asking: socket.socket, pid: int, send: Callable[[int, int], None]) -> None:
    """Tell who asked for a command its number and how it ended; kill it when who asked is gone."""
    asking.sendall(b"%d\n" % pid)
    while (ended := os.waitpid(pid, os.WNOHANG))[0] != pid:
        if select([asking], [], [], 0.02)[0]:
            send(pid, signal.SIGKILL)
            ended = os.waitpid(pid, 0)
            break
    with suppress(BrokenPipeError):
        asking.sendall(b"%d\n" % ended[1])
    os._exit(0)


def leave() -> None:
    """End at once: to take down all that the server has imported takes a second."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


# Else each fork goes through all objects of this process again.
gc.freeze()
request = next_command(sys.argv[1])
status = 1
atexit.register(leave)
# What is left there goes with the server's folder.
tempfile.tempdir = str(Path(sys.argv[1]).parent)
os.chdir(request["folder"])
os.environ.clear()
os.environ.update(request["environ"])
script, *words = request["words"]
sys.path[:] = [str(Path(script).resolve().parent), *request["path"]]
try:
    if script == "-m":
        sys.path[0] = request["folder"]
        sys.argv[:] = words
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = [script, *words]
        runpy.run_path(script, run_name="__main__")
    status = 0
except SystemExit as end:
    status = end.code if isinstance(end.code, int) else int(end.code is not None)
    raise
