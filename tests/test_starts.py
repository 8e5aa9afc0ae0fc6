"""Commands that begin as forks end as those that do not."""

import os
import signal
from pathlib import Path

import pytest
from commands import command, started, wait_for


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        ("pass", 0),
        ("sys.exit(3)", 3),
        ("sys.exit('a sentence')", 1),
        ("1 / 0", 1),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ],
)
def test_a_command_runs_once_and_ends_with_its_status(tmp_path: Path, ends: str, status: int):
    script = tmp_path / "train.py"
    script.write_text(f"import os, signal, sys\nprint(*sys.argv[1:], os.getcwd(), flush=True)\n{ends}\n")
    forked = command(tmp_path, str(script), "a", "b c")
    alone = command(tmp_path, str(script), "a", "b c", python=("-u",))
    assert forked.returncode == alone.returncode == status
    assert forked.stdout == alone.stdout == f"a b c {tmp_path}\n"
    assert forked.stderr.splitlines()[-1:] == alone.stderr.splitlines()[-1:]


@pytest.mark.parametrize("end", [os.kill, os.killpg])
def test_a_signal_to_a_group_reaches_what_the_command_has_started(tmp_path: Path, end):
    (tmp_path / "train.py").write_text(
        "import signal, subprocess, sys, time\n"
        "from pathlib import Path\n"
        "name = sys.argv[1]\n"
        "def ended(number, frame):\n"
        "    Path(name + '.ended').touch()\n"
        "    sys.exit(5)\n"
        "signal.signal(signal.SIGINT, ended)\n"
        "if name == 'main':\n"
        "    other = subprocess.Popen([sys.executable, sys.argv[0], 'other'])\n"
        "Path(name + '.begun').touch()\n"
        "while not Path('enough').exists():\n"
        "    time.sleep(0.02)\n"
    )
    process = started(tmp_path, str(tmp_path / "train.py"), "main", group=end is os.killpg)
    wait_for(tmp_path / "other.begun", process)
    wait_for(tmp_path / "main.begun", process)
    end(process.pid, signal.SIGINT)
    assert process.wait(60) == 5
    (tmp_path / "enough").touch()
    # The other one holds the pipes until it ends.
    process.communicate(timeout=60)
    assert (tmp_path / "main.ended").exists()
    assert (tmp_path / "other.ended").exists() == (end is os.killpg)
