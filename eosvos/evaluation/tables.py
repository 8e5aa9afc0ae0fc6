"""Tables of what an evaluation found: one row a setting, each figure with its standard error."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from eosvos.evaluation.cells import cell_text, markdown, new_table, number_text, with_spread
from eosvos.evaluation.records import MEASURES, SequenceRecord, csv_text
from eosvos.writing import write_whole

SECONDS = {"s/adaptation": "seconds_per_adaptation", "s/frame": "seconds_per_frame"}


@dataclass(frozen=True)
class Row:
    """One setting, such as "meta-learned", and what it reached on each video.

    dataset: the name of the data set that they are of, where there are several.
    """

    name: str
    records: tuple[SequenceRecord, ...]
    dataset: str = ""

    @property
    def title(self) -> str:
        """The setting, and the data set if there are several."""
        return f"{self.name}, {self.dataset}" if self.dataset else self.name

    def figures(self) -> dict[str, float | None]:
        """J, F and J&F (0..1), each with its standard error `... SE`, mean seconds, and numbers of things.

        None where there is no ground truth, and for the standard error of fewer than two videos. "videos" are
        those with scores, the others are "only segmented".
        """
        figures: dict[str, float | None] = {}
        for name, measure in MEASURES.items():
            videos = [[measure(score) for score in record.scores] for record in self.records if record.scores]
            figures[name], figures[f"{name} SE"] = mean_and_error(videos)
        for name, attribute in SECONDS.items():
            seconds = [getattr(record, attribute) for record in self.records]
            figures[name] = float(np.mean(seconds)) if seconds else None
        scored = sum(bool(record.scores) for record in self.records)
        return {
            **figures,
            "videos": scored,
            "only segmented": len(self.records) - scored,
            "objects": sum(record.num_objects for record in self.records),
            "masks": sum(record.num_frames for record in self.records),
        }


def mean_and_error(videos: Sequence[Sequence[float]]) -> tuple[float | None, float | None]:
    """The mean over the objects of all videos, as DAVIS takes it, and its standard error.

    Objects of one video are not independent, so videos are what is sampled: with as many objects in each, the
    error is that of the mean over videos. None for the mean of nothing, and for the error of fewer than two
    videos.
    """
    values = np.array([value for video in videos for value in video])
    if not len(values):
        return None, None
    mean = float(values.mean())
    if len(videos) < 2:
        return mean, None
    deviations = np.array([np.sum(np.array(video) - mean) for video in videos])
    variance = np.sum(deviations**2) * len(videos) / (len(videos) - 1)
    return mean, float(np.sqrt(variance) / len(values))


def rows_table(rows: Sequence[Row], title: str | None = None, style: box.Box = box.ROUNDED) -> Table:
    """One line a row: J, F and J&F as mean ± standard error over videos, and seconds.

    Where no video has ground truth: seconds, and how much was segmented.
    """
    lines = [row.figures() for row in rows]
    scored = any(figures["videos"] for figures in lines)
    measures = tuple(MEASURES) if scored else ()
    counts = ["videos"] if scored else ["objects", "masks"]
    counts += ["only segmented"] * any(figures["only segmented"] for figures in lines)
    several = any(row.dataset for row in rows)
    table = new_table(("", *["data set"] * several, *measures, *SECONDS, *counts), title, style)
    for row, figures in zip(rows, lines, strict=True):
        scores = [with_spread(figures[name], figures[f"{name} SE"]) for name in measures]
        seconds = [number_text(figures[name]) for name in SECONDS]
        names = [cell_text(text, style) for text in (row.name, *[row.dataset] * several)]
        table.add_row(*names, *scores, *seconds, *(str(figures[name]) for name in counts))
    return table


def sequence_table(rows: Sequence[Row], title: str | None = None, style: box.Box = box.ROUNDED) -> Table:
    """One line a sequence: for each setting, J and F as means over the sequence's objects.

    For a setting that has no scores at all: seconds for a frame.
    """
    records: dict[str, dict[tuple[str, str], SequenceRecord]] = {row.name: {} for row in rows}
    for row in rows:
        records[row.name] |= {(row.dataset, record.sequence): record for record in row.records}
    scored = {name: any(record.scores for record in found.values()) for name, found in records.items()}
    several = any(row.dataset for row in rows)
    titles = [f"{name}: {'J / F' if scored[name] else 's/frame'}" for name in records]
    table = new_table(("sequence", *["data set"] * several, "frames", "objects", *titles), title, style)
    for key in dict.fromkeys(key for found in records.values() for key in found):
        of_sequence = {name: found.get(key) for name, found in records.items()}
        one = next(filter(None, of_sequence.values()))
        names = [cell_text(text, style) for text in (one.title, *[key[0]] * several)]
        cells = [_cell(scored[name], record) for name, record in of_sequence.items()]
        table.add_row(*names, str(one.num_frames), str(one.num_objects), *cells)
    return table


def write_report(folder: str | Path, rows: Sequence[Row]) -> None:
    """Write report.json (all records too), report.csv, and report.md with both tables into the folder."""
    folder = Path(folder)
    figures: list[dict[str, Any]] = [
        {"name": row.name, **({"dataset": row.dataset} if row.dataset else {}), **row.figures()}
        for row in rows
    ]
    full = [
        {**line, "records": [record.to_json() for record in row.records]}
        for line, row in zip(figures, rows, strict=True)
    ]
    write_whole(folder / "report.json", json.dumps(full, indent=1).encode())
    write_whole(folder / "report.csv", csv_text(figures).encode())
    tables = (rows_table(rows, style=box.MARKDOWN), sequence_table(rows, style=box.MARKDOWN))
    write_whole(folder / "report.md", "\n".join(markdown(table) for table in tables).encode())


def _cell(scored: bool, record: SequenceRecord | None) -> str:
    """What is said of a sequence, where others have scores or not; or a dash."""
    if record is None or (scored and not record.scores):
        return "-"
    if not record.scores:
        return number_text(record.seconds_per_frame)
    means = record.means()
    return " / ".join(number_text(means[name]) for name in ("J", "F"))
