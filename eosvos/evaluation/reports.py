"""What a run's folder tells of what the run reached; takes no torch."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REPORT = "report.json"
"""The table that a run ends with."""
REPORTS = (REPORT, "report.csv", "report.md")
"""All files of that table."""
LEARNED = "meta-learned"
"""The setting that tells what a training run is worth; an evaluation has but one."""


def reported_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a report that tell what its run is worth, one for each data set.

    None where it has evaluated on nothing. Raises OSError without a report, and ValueError if it is broken.
    """
    rows = json.loads((folder / REPORT).read_text())
    worth = compared_name([row["name"] for row in rows])
    return [row for row in rows if row["name"] == worth]


def compared_name(names: Sequence[str]) -> str | None:
    """The setting by which runs are compared, of those in a report; None without any."""
    return LEARNED if LEARNED in names else next(iter(names), None)
