"""What a run's folder tells of what the run reached; takes no torch."""

import json
from pathlib import Path
from typing import Any

REPORT = "report.json"
"""The table that a run ends with."""
LEARNED = "meta-learned"
"""The setting that tells what a training run is worth; an evaluation has but one."""


def reported_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a report that tell what its run is worth, one for each data set.

    Raises OSError or ValueError without any.
    """
    rows = json.loads((folder / REPORT).read_text())
    if not rows:
        raise ValueError("it has no rows")
    name = LEARNED if any(row["name"] == LEARNED for row in rows) else rows[0]["name"]
    return [row for row in rows if row["name"] == name]
