"""Results on disk, in the layout that the official DAVIS tool, vos-benchmark and the YouTube-VOS server read.

    RESULTS/<sequence>/<frame>.png            label maps with the DAVIS palette
    RESULTS/<sequence>.overlay.png            a few frames with their masks
    RESULTS/<sequence>.finished.json          scores and seconds; written last: it marks the finished
    RESULTS/manifest.json                     what made these results
    RESULTS/global_results-<split>.csv        the official tool's tables
    RESULTS/per-sequence_results-<split>.csv

There are no other folders: vos-benchmark takes each for a sequence.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from eosvos.errors import UserError
from eosvos.evaluation.metrics import ObjectScore, Statistics
from eosvos.writing import write_whole

MARKER = ".finished.json"


@dataclass(frozen=True)
class SequenceRecord:
    """What is kept of an evaluated sequence: its scores (None without ground truth) and its seconds."""

    sequence: str
    num_frames: int
    scores: tuple[ObjectScore, ...] | None
    seconds_per_adaptation: float
    seconds_per_frame: float

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`; `from_json` gives an equal record back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "SequenceRecord":
        """The record that `to_json` turned into `values`. Raises KeyError or TypeError if not one."""
        scores = values["scores"]
        return cls(
            **{**values, "scores": None if scores is None else tuple(_score(score) for score in scores)}
        )


class ResultsFolder:
    """A folder of results that an interrupted evaluation goes on filling.

    `manifest` says what makes the results (plain values: hashes, settings). Raises UserError if the folder
    holds results of something else, naming what differs; `overwrite` deletes what is finished there and
    starts anew.
    """

    def __init__(
        self, root: str | Path, split: str, manifest: Mapping[str, Any], overwrite: bool = False
    ) -> None:
        self.root = Path(root)
        self.split = split
        wanted = json.loads(json.dumps(manifest))
        if overwrite:
            self._forget()
        else:
            self._check(wanted)
        write_whole(self.root / "manifest.json", json.dumps(wanted, indent=2).encode())

    def finished(self, sequence: str) -> SequenceRecord | None:
        """The record of a finished sequence, None if still to do. Raises UserError for a broken marker."""
        path = self._marker(sequence)
        if not path.exists():
            return None
        try:
            return SequenceRecord.from_json(json.loads(path.read_text()))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is not a record of a finished sequence ({error}): delete it.") from error

    def write_frame(self, sequence: str, frame_name: str, labels: Tensor) -> None:
        """Write the label map uint8 [H, W] of object ids as RESULTS/sequence/frame_name.png."""
        write_labels(self.root / sequence / f"{frame_name}.png", labels)

    def finish(self, sequence: str, record: SequenceRecord) -> None:
        """Mark a sequence whose frames are all written as finished."""
        write_whole(self._marker(sequence), json.dumps(record.to_json()).encode())

    def overlay_path(self, sequence: str) -> Path:
        """Where the overlay strip of a sequence belongs."""
        return self.root / f"{sequence}.overlay.png"

    def write_tables(self, records: Sequence[SequenceRecord]) -> None:
        """Write the official tool's two CSV files for the records with scores; none if no record has any."""
        scored = [(record.sequence, score) for record in records for score in record.scores or ()]
        if not scored:
            return
        table = [_summary([score for _, score in scored])]
        write_whole(self.root / f"global_results-{self.split}.csv", csv_text(table).encode())
        by_object = [
            {
                "Sequence": f"{name}_{score.object_id}",
                "J-Mean": score.region.mean,
                "F-Mean": score.boundary.mean,
            }
            for name, score in scored
        ]
        write_whole(self.root / f"per-sequence_results-{self.split}.csv", csv_text(by_object).encode())

    def _marker(self, sequence: str) -> Path:
        return self.root / f"{sequence}{MARKER}"

    def _forget(self) -> None:
        """Delete the tables, and pictures and markers of finished sequences; all else is left alone."""
        for marker in self.root.glob(f"*{MARKER}"):
            sequence = marker.name.removesuffix(MARKER)
            for picture in (self.overlay_path(sequence), *(self.root / sequence).glob("*.png")):
                picture.unlink(missing_ok=True)
            marker.unlink()
        for table in self.root.glob("*_results-*.csv"):
            table.unlink()

    def _check(self, wanted: dict[str, Any]) -> None:
        """Refuse a folder that holds results of another manifest, or of none."""
        path = self.root / "manifest.json"
        if not path.exists():
            stranger = next(self.root.glob("[!.]*/*.png"), None)
            if stranger is not None:
                raise UserError(
                    f"results={self.root} holds pictures without a manifest ({stranger}): "
                    "choose another folder, or set overwrite=true."
                )
            return
        try:
            there = json.loads(path.read_text())
        except ValueError as error:
            raise UserError(f"{path} is not JSON ({error}): delete it, or set overwrite=true.") from error
        found = list(differences(there, wanted))
        if found:
            raise UserError(
                f"results={self.root} holds the results of another evaluation ({'; '.join(found)}): "
                "choose another folder, or set overwrite=true."
            )


def davis_palette() -> np.ndarray:
    """The colours of object ids, uint8 [256, 3] RGB: DAVIS uses those of Pascal VOC.

    The three lowest bits of an id are the highest bits of red, green and blue, the next three bits their
    second, etc.
    """
    ids = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        colours[:, bit % 3] |= (((ids >> bit) & 1) << (7 - bit // 3)).astype(np.uint8)
    return colours


def write_labels(path: str | Path, labels: Tensor) -> None:
    """Write a label map uint8 [H, W] of object ids as a PNG with the DAVIS palette."""
    image = Image.fromarray(labels.cpu().numpy())
    image.putpalette(davis_palette().tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    write_whole(Path(path), buffer.getvalue())


def csv_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows of equal keys as CSV with a header; numbers with three decimals, as the official tool does."""
    rows = list(rows)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
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


def _score(values: Mapping[str, Any]) -> ObjectScore:
    return ObjectScore(
        object_id=values["object_id"],
        region=Statistics(**values["region"]),
        boundary=Statistics(**values["boundary"]),
        region_per_frame=tuple(values["region_per_frame"]),
        boundary_per_frame=tuple(values["boundary_per_frame"]),
    )


def differences(there: Any, here: Any, key: str = "") -> Iterator[str]:
    """Say where two nested settings differ, with dotted keys."""
    if isinstance(there, dict) and isinstance(here, dict):
        for name in sorted(there.keys() | here.keys()):
            yield from differences(there.get(name), here.get(name), f"{key}.{name}" if key else name)
    elif there != here:
        yield f"{key or 'manifest'} is {there!r} there and {here!r} here"
