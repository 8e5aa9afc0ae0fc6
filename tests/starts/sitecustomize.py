"""What a command of the tests begins with, whose environment `commands.started` made: see server.py."""

import json
import os
import signal
import socket
import sys
from pathlib import Path


def stand_in() -> None:
    """Let the server begin this command, pass signals on to it, and end as it does."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(os.environ["EOSVOS_TEST_STARTS"])
        socket.send_fds(server, [b"."], [0, 1, 2])
        request = {"words": words, "path": sys.path, "folder": os.getcwd(), "environ": {**os.environ}}
        server.sendall(json.dumps(request).encode() + b"\n")
        answers = server.makefile()
        pid = int(answers.readline())
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os.kill(pid, number))
        code = os.waitstatus_to_exitcode(int(answers.readline()))
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


SCRIPTS = ("train.py", "evaluate.py", "ranks.py")
words = sys.orig_argv[1:]
if words[:2] == ["-m", "eosvos.commands"] or Path(*words[:1]).name in SCRIPTS:
    stand_in()
