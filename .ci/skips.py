"""Fail when tests were skipped for a reason that does not hold on this machine: `skips.py JUNIT_XML`.

A test may be skipped for the reasons of REASONS alone, and only where they hold.
"""

import shutil
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree


def _no_gpu() -> bool:
    import torch

    return not torch.cuda.is_available()


def _no_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return True
    return False


# Words of each reason to skip a test, and whether it holds here.
REASONS = {
    "../shared": lambda: not (Path(__file__).resolve().parents[2] / "shared").is_dir(),
    "chromium": lambda: shutil.which("chromium") is None,
    "GPU": _no_gpu,
    "IPv6": _no_ipv6,
    "davis2017": lambda: find_spec("davis2017") is None,
    "mount": lambda: shutil.which("unshare") is None or bool(subprocess.call(["unshare", "--mount", "true"])),
}


def holds(reason: str) -> bool:
    """Whether a reason to skip a test is one of the known ones and true here."""
    return any(words in reason and true_here() for words, true_here in REASONS.items())


def main(report: str) -> int:
    """Read the tests' JUnit report, name the skips that must not be, and return the exit status."""
    cases = ElementTree.parse(report).getroot().iter("testcase")
    skips = [
        (case, skip) for case in cases for skip in case.iter("skipped") if skip.get("type") != "pytest.xfail"
    ]
    # The reason stands in the message, but for a skipped module in the text.
    reasons = [(case, f"{skip.get('message')}: {skip.text}") for case, skip in skips]
    bad = [
        f"{case.get('classname')}::{case.get('name')}: {reason}"
        for case, reason in reasons
        if not holds(reason)
    ]
    if bad:
        print("Skipped for a reason that does not hold here:", *bad, sep="\n  ", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
