"""Fail when tests were skipped for a reason that does not hold on this machine: `skips.py JUNIT_XML`.

A test may be skipped for want of ../shared, of a GPU, of chromium, or of the right to mount, and only where
that is so.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree


def holds(reason: str) -> bool:
    """Whether a reason to skip a test is one of the known ones and true here."""
    if "../shared" in reason:
        return not (Path(__file__).resolve().parents[2] / "shared").is_dir()
    if "chromium" in reason:
        return shutil.which("chromium") is None
    if "GPU" in reason:
        import torch

        return not torch.cuda.is_available()
    if "by root" in reason:
        return os.geteuid() != 0
    if "mount" in reason:
        return shutil.which("unshare") is None or bool(subprocess.call(["unshare", "--mount", "true"]))
    return False


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
