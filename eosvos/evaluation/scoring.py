"""Segmenting and scoring videos: the same in validation, in the final evaluation and in evaluate.py."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from eosvos.config.inference import Finetune
from eosvos.data.sequence import VideoSequence
from eosvos.errors import listing
from eosvos.evaluation.metrics import SequenceScorer
from eosvos.evaluation.overlay import OverlayStrip
from eosvos.evaluation.records import SequenceRecord
from eosvos.evaluation.results import ResultsFolder
from eosvos.evaluation.tables import Row
from eosvos.inference.predictor import Predictor
from eosvos.inference.propagate import DIVERGED
from eosvos.meta.learner import MetaLearner
from eosvos.processes import is_rank_zero, map_across_ranks

_log = logging.getLogger(__name__)


def score_sequence(
    predictor: Predictor,
    sequence: VideoSequence,
    folder: ResultsFolder | None = None,
    strip: Path | None = None,
) -> SequenceRecord:
    """Segment a sequence and score it; frame by frame, so that memory does not grow with its length.

    folder: takes the masks and the record; the sequence has been begun in it. strip: the file that an overlay
    strip is written to.
    """
    scorer, overlay = SequenceScorer(sequence), OverlayStrip(sequence)
    for t, (name, labels) in enumerate(predictor.segment(sequence)):
        scorer.add(labels)
        if folder is not None:
            folder.write_frame(sequence.name, name, labels)
        if strip is not None:
            overlay.add(t, labels)
    scores = scorer.scores()
    record = SequenceRecord(
        sequence=sequence.name,
        num_frames=sequence.num_frames,
        num_objects=len(sequence.object_ids),
        scores=None if scores is None else tuple(scores),
        seconds_per_adaptation=predictor.timing.seconds_per_adaptation,
        seconds_per_frame=predictor.timing.seconds_per_frame,
        diverged_adaptations=predictor.timing.diverged,
    )
    if strip is not None:
        overlay.save(strip)
    if folder is not None:
        folder.finish(record)
    return record


def score_row(
    name: str, learner: MetaLearner, finetune: Finetune, sequences: Sequence[VideoSequence], seed: int
) -> Row:
    """A row of a table: every sequence segmented by the learner, in one of the processes."""
    predictor = Predictor(learner, finetune, seed=seed)
    return make_row(name, map_across_ranks(sequences, lambda video: score_sequence(predictor, video)))


def make_row(name: str, records: Sequence[SequenceRecord]) -> Row:
    """A row of a table; says once in how many of its videos fine-tuning has diverged, if in any."""
    diverged = [record.sequence for record in records if record.diverged_adaptations]
    if diverged and is_rank_zero():
        count = f"{len(diverged)} of {len(records)} videos"
        _log.warning("%s: in %s %s (%s)", name, count, DIVERGED, listing(diverged))
    return Row(name, tuple(records))


def fill_folder(
    folder: ResultsFolder,
    predictor: Predictor,
    sequences: Sequence[VideoSequence],
    visualisations: int | None = None,
    tell: Callable[[SequenceRecord], None] = lambda record: None,
) -> list[SequenceRecord]:
    """Segment the sequences that are not yet finished in a results folder; then write its tables.

    Processes share the work. visualisations: how many sequences get a strip of frames beside their masks;
    None: all. tell: is called with each record as it is there. Returns all records, in order.
    """

    def record_of(number: int) -> SequenceRecord:
        sequence = sequences[number]
        strip = (
            folder.overlay_path(sequence.name) if visualisations is None or number < visualisations else None
        )
        record = folder.begin(sequence, overlay=strip is not None)
        if record is None:
            record = score_sequence(predictor, sequence, folder, strip)
        tell(record)
        return record

    records = map_across_ranks(range(len(sequences)), record_of)
    if is_rank_zero():
        folder.write_tables(records)
    return records


class Validation:
    """What MetaModule asks for: (J, F) of every object of a sequence, as the predictor segments it.

    Its randomness is its own: validation leaves the state of training as it is.
    """

    def __init__(self, finetune: Finetune, seed: int) -> None:
        self.finetune = finetune
        self.seed = seed

    def __call__(self, learner: MetaLearner, sequence: VideoSequence) -> list[tuple[float, float]]:
        """Segment from the first masks, fine-tuning included; each value is in 0..1."""
        record = score_sequence(Predictor(learner, self.finetune, seed=self.seed), sequence)
        return [(score.region.mean, score.boundary.mean) for score in record.scores or ()]
