"""What is kept of an evaluated sequence, and the official DAVIS tool's tables of it."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from eosvos.evaluation.metrics import ObjectScore

MEASURES: dict[str, Callable[[ObjectScore], float]] = {
    "J": lambda score: score.region.mean,
    "F": lambda score: score.boundary.mean,
    "J&F": lambda score: (score.region.mean + score.boundary.mean) / 2,
}


@dataclass(frozen=True)
class SequenceRecord:
    """What is kept of an evaluated sequence: its scores (None without ground truth) and its seconds.

    `finished_before`: whether an earlier evaluation made it.
    """

    sequence: str
    num_frames: int
    num_objects: int
    scores: tuple[ObjectScore, ...] | None
    seconds_per_adaptation: float
    seconds_per_frame: float
    diverged_adaptations: int = 0
    finished_before: bool = False

    @property
    def title(self) -> str:
        """The sequence's name, and whether it was finished before."""
        return f"{self.sequence} (finished before)" if self.finished_before else self.sequence

    def means(self) -> dict[str, float | None]:
        """J, F and J&F, means over the objects (0..1); None without ground truth."""
        scores = self.scores
        return {
            name: float(np.mean([measure(one) for one in scores])) if scores else None
            for name, measure in MEASURES.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`; `from_json` gives an equal record back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "SequenceRecord":
        """The record that `to_json` turned into `values`. Raises ValueError if not one."""
        return TypeAdapter(cls).validate_python(values)


def official_tables(records: Sequence[SequenceRecord]) -> tuple[str, str]:
    """The official tool's two CSV files, of all objects and by object; raises ValueError without scores."""
    scored = [(record.sequence, score) for record in records for score in record.scores or ()]
    if not scored:
        raise ValueError("no record has scores")
    by_object = [
        {"Sequence": f"{name}_{score.object_id}", "J-Mean": score.region.mean, "F-Mean": score.boundary.mean}
        for name, score in scored
    ]
    return csv_text([_summary([score for _, score in scored])]), csv_text(by_object)


def csv_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows of equal keys as CSV with a header; numbers with three decimals, as the official tool does."""
    rows = list(rows)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {key: f"{value:.3f}" if isinstance(value, float) else value for key, value in row.items()}
        )
    return buffer.getvalue()


def _summary(scores: Sequence[ObjectScore]) -> dict[str, float]:
    """The columns of the official tool's global table: means over objects."""
    measures = {"J": [score.region for score in scores], "F": [score.boundary for score in scores]}
    columns = {
        f"{letter}-{name.title()}": float(np.mean([getattr(one, name) for one in measure]))
        for letter, measure in measures.items()
        for name in ("mean", "recall", "decay")
    }
    return {"J&F-Mean": (columns["J-Mean"] + columns["F-Mean"]) / 2, **columns}
