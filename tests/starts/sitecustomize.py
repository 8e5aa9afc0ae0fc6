"""What a command of the tests begins with, whose environment `commands.started` made: see server.py."""

import json
import os
import signal
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def stand_in(words: list[str]) -> None:
    """Let the server begin this command, pass signals on to it, and end as it does."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    # Who signals this process's group means what the command has started, too.
    send = os.killpg if os.environ.pop("EOSVOS_TEST_GROUP", "") else os.kill
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(os.environ["EOSVOS_TEST_STARTS"])
        socket.send_fds(server, [b"."], [0, 1, 2])
        request = {"words": words, "path": sys.path, "folder": os.getcwd(), "environ": {**os.environ}}
        request["group"] = send is os.killpg
        server.sendall(json.dumps(request).encode() + b"\n")
        answers = server.makefile()
        pid = int(answers.readline())

        def pass_on(number: int, _: Any) -> None:
            with suppress(ProcessLookupError):
                send(pid, number)

        for number in SIGNALS:
            signal.signal(number, pass_on)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        code = os.waitstatus_to_exitcode(int(answers.readline()))
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


words = sys.orig_argv[1:]
is_script = Path(*words[:1]).name in ("train.py", "evaluate.py", "ranks.py")
if is_script or words[:2] == ["-m", "eosvos.commands"]:
    try:
        stand_in(words)
    except BaseException:
        # Python would go on, and begin the command itself.
        traceback.print_exc()
        os._exit(1)
