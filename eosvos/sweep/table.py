"""What the jobs of a sweep have reached: a line for jobs that differ in their seed alone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rich import box
from rich.table import Table

from eosvos.console import say
from eosvos.errors import JobsFailedError
from eosvos.evaluation.cells import cell_text, markdown, new_table, with_spread
from eosvos.evaluation.records import csv_text
from eosvos.evaluation.reports import REPORT, reported_rows
from eosvos.writing import write_whole

VALIDATION = "val/J&F"
MEASURES = (VALIDATION, "J", "F", "J&F")


@dataclass(frozen=True)
class Job:
    """A job of a sweep: what it sets, in the words of the command line, its folder, and whether a search has
    ended it early.
    """

    overrides: tuple[str, ...]
    folder: Path
    pruned: bool = False

    @property
    def seed(self) -> str:
        """The seed that is set; empty where none is."""
        return next((word[len("seed=") :] for word in self.overrides if word.startswith("seed=")), "")

    @property
    def settings(self) -> tuple[str, ...]:
        """What is set beside the seed."""
        return tuple(word for word in self.overrides if not word.startswith("seed="))

    def measures(self) -> dict[str, float] | None:
        """J&F on the videos to choose by, and the final scores, all 0..1; None if it failed.

        Of several data sets the final scores are means. Without any videos to test on there are none.
        """
        if not (self.folder / REPORT).is_file():
            return None
        best = self.folder / "checkpoints" / "best.json"
        rows = [*reported_rows(self.folder), *([json.loads(best.read_text())] if best.is_file() else [])]
        found = {name: [row[name] for row in rows if row.get(name) is not None] for name in MEASURES}
        return {name: mean(values) for name, values in found.items() if values}


def compare_jobs(jobs: Sequence[Job], folder: Path, *said: str) -> None:
    """Print the table of a sweep's jobs, and write sweep.csv, sweep.md and sweep.json into its folder.

    said: lines to print below it. Raises JobsFailedError if some have failed.
    """
    lines = summary(jobs)
    say(table(lines, box.ROUNDED, f"{len(jobs)} jobs"), f"The jobs, and this table: {folder}", *said)
    write_whole(folder / "sweep.json", json.dumps(lines, indent=1).encode())
    write_whole(folder / "sweep.md", markdown(table(lines, box.MARKDOWN)).encode())
    write_whole(
        folder / "sweep.csv", csv_text({**line, "seeds": " ".join(line["seeds"])} for line in lines).encode()
    )
    if failed := sum(line["failed"] for line in lines):
        raise JobsFailedError(f"{failed} of the sweep's jobs failed, as said above")


def summary(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """For each setting: its seeds, mean and standard deviation `... SD` of what its jobs reached, the failed
    and the pruned.

    The deviation is that of a sample, and None of fewer than two jobs. `best` marks the highest mean: of J&F
    on the videos that checkpoints are chosen by, where there is one, else of the final J&F.
    """
    common = set.intersection(*(set(job.settings) for job in jobs)) if jobs else set()
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(word for word in job.settings if word not in common), []).append(job)
    lines = [_line(" ".join(settings), group) for settings, group in groups.items()]
    criterion = VALIDATION if any(line[VALIDATION] is not None for line in lines) else "J&F"
    scores = [line[criterion] for line in lines if line[criterion] is not None]
    return [{**line, "best": bool(scores) and line[criterion] == max(scores)} for line in lines]


def _line(settings: str, jobs: Sequence[Job]) -> dict[str, Any]:
    done = [measures for job in jobs if (measures := job.measures()) is not None]
    line: dict[str, Any] = {"settings": settings, "seeds": [job.seed for job in jobs if job.seed]}
    for name in MEASURES:
        values = [measures[name] for measures in done if name in measures]
        line[name] = mean(values) if values else None
        line[f"{name} SD"] = stdev(values) if len(values) > 1 else None
    pruned = sum(job.pruned for job in jobs)
    return {**line, "jobs": len(jobs), "failed": len(jobs) - len(done) - pruned, "pruned": pruned}


def table(lines: Sequence[dict[str, Any]], style: box.Box, title: str | None = None) -> Table:
    """The lines of `summary`; ± is a standard deviation over seeds."""
    measures = [name for name in MEASURES if any(line[name] is not None for line in lines)]
    ends = [name for name in ("failed", "pruned") if name == "failed" or any(line[name] for line in lines)]
    made = new_table(("settings", "seeds", *measures, *ends, ""), title, style)
    for line in lines:
        scores = [with_spread(line[name], line[f"{name} SD"]) for name in measures]
        best = "best" if line["best"] and len(lines) > 1 else ""
        names = (cell_text(words, style) for words in (line["settings"], " ".join(line["seeds"])))
        made.add_row(*names, *scores, *(str(line[name] or "") for name in ends), best)
    return made
