"""Tables of what an evaluation found: one row a setting, each figure with its standard error."""

import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eosvos.evaluation.metrics import ObjectScore
from eosvos.evaluation.records import SequenceRecord, csv_text
from eosvos.writing import write_whole

MEASURES: dict[str, Callable[[ObjectScore], float]] = {
    "J": lambda score: score.region.mean,
    "F": lambda score: score.boundary.mean,
    "J&F": lambda score: (score.region.mean + score.boundary.mean) / 2,
}
SECONDS = {"s/adaptation": "seconds_per_adaptation", "s/frame": "seconds_per_frame"}


@dataclass(frozen=True)
class Row:
    """One setting, such as "meta-learned", and what it reached on each video."""

    name: str
    records: tuple[SequenceRecord, ...]

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
    table = _table(("", *measures, *SECONDS, *counts), title, style)
    for row, figures in zip(rows, lines, strict=True):
        scores = [_with_error(figures[name], figures[f"{name} SE"]) for name in measures]
        seconds = [_number(figures[name]) for name in SECONDS]
        table.add_row(_text(row.name, style), *scores, *seconds, *(str(figures[name]) for name in counts))
    return table


def sequence_table(rows: Sequence[Row], title: str | None = None, style: box.Box = box.ROUNDED) -> Table:
    """One line a sequence: for each row, J and F as means over the sequence's objects.

    For a row that has no scores at all: seconds for a frame.
    """
    titles = [f"{row.name}: {'J / F' if _scored(row) else 's/frame'}" for row in rows]
    table = _table(("sequence", "frames", "objects", *titles), title, style)
    records = [{record.sequence: record for record in row.records} for row in rows]
    for name in dict.fromkeys(name for of_row in records for name in of_row):
        of_sequence = [of_row.get(name) for of_row in records]
        one = next(filter(None, of_sequence))
        cells = [_cell(row, record) for row, record in zip(rows, of_sequence, strict=True)]
        table.add_row(_text(one.title, style), str(one.num_frames), str(one.num_objects), *cells)
    return table


def write_report(folder: str | Path, rows: Sequence[Row]) -> None:
    """Write report.json (all records too), report.csv, and report.md with both tables into the folder."""
    folder = Path(folder)
    figures: list[dict[str, Any]] = [{"name": row.name, **row.figures()} for row in rows]
    full = [
        {**line, "records": [record.to_json() for record in row.records]}
        for line, row in zip(figures, rows, strict=True)
    ]
    write_whole(folder / "report.json", json.dumps(full, indent=1).encode())
    write_whole(folder / "report.csv", csv_text(figures).encode())
    tables = (rows_table(rows, style=box.MARKDOWN), sequence_table(rows, style=box.MARKDOWN))
    write_whole(folder / "report.md", "\n".join(_as_text(table) for table in tables).encode())


def _table(columns: Sequence[str], title: str | None, style: box.Box) -> Table:
    table = Table(title=None if title is None else _text(title, style), box=style)
    for number, name in enumerate(columns):
        table.add_column(_text(name, style), justify="right" if number else "left")
    return table


def _text(text: str, style: box.Box) -> Text:
    """Others' words on one line, in which nothing is taken for markup, nor for a part of the table."""
    line = " ".join(text.splitlines())
    return Text(re.sub(r"([\\|<\[`*])", r"\\\1", line) if style is box.MARKDOWN else line)


def _scored(row: Row) -> bool:
    return any(record.scores for record in row.records)


def _cell(row: Row, record: SequenceRecord | None) -> str:
    """What a row says of one sequence, or a dash."""
    if record is None or (_scored(row) and not record.scores):
        return "-"
    if not record.scores:
        return _number(record.seconds_per_frame)
    return " / ".join(
        f"{np.mean([MEASURES[name](score) for score in record.scores]):.3f}" for name in ("J", "F")
    )


def _with_error(mean: float | None, error: float | None) -> str:
    return _number(mean) if error is None else f"{mean:.3f} ± {error:.3f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _as_text(table: Table) -> str:
    """The table without colours, as wide as it needs to be; trailing blanks go."""
    buffer = io.StringIO()
    Console(file=buffer, width=1000, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()).strip("\n") + "\n"
