"""Starts commands for the tests, each in a fork of this process, which has imported what they import.

    python server.py SOCKET

Importing takes most of the time of a short command. One that is started with this folder in PYTHONPATH, and
each that it starts in its turn, asks here to be begun (sitecustomize.py): as from a Python of its own, with
its arguments, folder, environment, standard streams, signals and exit status. The server ends with its
standard input.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from select import select
from typing import Any

import eosvos.evaluation.evaluate
import eosvos.training.train  # noqa: F401


def next_command(path: str) -> dict[str, Any]:
    """Serve at a socket. Returns in the fork for each command, with its standard streams: what was asked."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while sys.stdin not in select([listener, sys.stdin], [], [])[0]:
        asking, _ = listener.accept()
        if not os.fork():
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            streams = socket.recv_fds(asking, 1, 3)[1]
            request = json.loads(asking.makefile().readline())
            if pid := os.fork():
                watch(asking, pid)
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            asking.close()
            # Its stand-in alone hears of a Ctrl-C.
            os.setsid()
            return request
        asking.close()
    os._exit(0)


def watch(asking: socket.socket, pid: int) -> None:
    """Tell who asked for a command its number and how it ended; kill it when who asked is gone."""
    asking.sendall(b"%d\n" % pid)
    if asking in select([asking, os.pidfd_open(pid)], [], [])[0]:
        os.kill(pid, signal.SIGKILL)
    with suppress(BrokenPipeError):
        asking.sendall(b"%d\n" % os.waitpid(pid, 0)[1])
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
