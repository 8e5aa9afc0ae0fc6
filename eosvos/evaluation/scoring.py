"""Segmenting and scoring videos: the same in validation, in the final evaluation and in evaluate.py."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from torch import Tensor

from eosvos.config.inference import Finetune
from eosvos.data.sequence import VideoSequence
from eosvos.errors import listing
from eosvos.evaluation.metrics import SequenceScorer
from eosvos.evaluation.overlay import OverlayStrip
from eosvos.evaluation.records import SequenceRecord
from eosvos.evaluation.results import ResultsFolder
from eosvos.evaluation.tables import Row
from eosvos.evaluation.unfinished import segmented_into
from eosvos.inference.predictor import Predictor
from eosvos.inference.propagate import DIVERGED
from eosvos.meta.learner import MetaLearner
from eosvos.processes import is_rank_zero, map_across_ranks, raise_if_interrupted

_log = logging.getLogger(__name__)

Watch = Callable[[VideoSequence, Iterator[tuple[str, Tensor]]], Iterable[tuple[str, Tensor]]]


def score_sequence(
    predictor: Predictor,
    sequence: VideoSequence,
    folder: ResultsFolder | None = None,
    overlay: bool = False,
    watch: Watch = lambda sequence, frames: frames,
) -> SequenceRecord:
    """Segment a sequence and score it; frame by frame, so that memory does not grow with its length.

    folder: takes the pictures and the record; the sequence has been begun in it, with or without overlay, and
    is gone on with where it was interrupted. watch: is given the sequence and its segmented frames, which
    pass through it.
    """
    scorer = SequenceScorer(sequence)
    segmented = (
        nullcontext((predictor.segment(sequence), None))
        if folder is None
        else segmented_into(folder, predictor, sequence, overlay)
    )
    with segmented as (frames, write):
        for t, (_, labels) in enumerate(watch(sequence, frames)):
            raise_if_interrupted()
            scorer.add(labels)
            if write is not None:
                write(t, labels)
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
    if folder is not None:
        folder.finish(record)
    return record


def score_row(
    name: str,
    learner: MetaLearner,
    finetune: Finetune,
    sequences: Sequence[VideoSequence],
    seed: int,
    dataset: str = "",
) -> Row:
    """A row of a table: every sequence segmented by the learner, in one of the processes."""
    predictor = Predictor(learner, finetune, seed=seed)
    records = map_across_ranks(sequences, lambda video: score_sequence(predictor, video))
    return make_row(name, records, dataset)


def make_row(name: str, records: Sequence[SequenceRecord], dataset: str = "") -> Row:
    """A row of a table; says once in how many of its videos fine-tuning has diverged, if in any."""
    diverged = [record.sequence for record in records if record.diverged_adaptations]
    if diverged and is_rank_zero():
        count = f"{len(diverged)} of {len(records)} videos"
        of_set = f" of {dataset}" if dataset else ""
        _log.warning("%s: in %s%s %s (%s)", name, count, of_set, DIVERGED, listing(diverged))
    return Row(name, tuple(records), dataset)


def fill_folder(
    folder: ResultsFolder,
    predictor: Predictor,
    sequences: Sequence[VideoSequence],
    visualisations: int | None = None,
    tell: Callable[[SequenceRecord], None] = lambda record: None,
    watch: Watch = lambda sequence, frames: frames,
) -> list[SequenceRecord]:
    """Segment the sequences that are not yet finished in a results folder; then write its tables.

    Processes share the work. visualisations: how many sequences get overlays beside their masks; None: all.
    tell: is called with each record as it is there. watch: see `score_sequence`. Returns all records, in
    order.
    """

    def record_of(number: int) -> SequenceRecord:
        sequence = sequences[number]
        overlay = visualisations is None or number < visualisations
        record = folder.begin(sequence, overlay)
        if record is None:
            record = score_sequence(predictor, sequence, folder, overlay, watch)
        tell(record)
        return record

    records = map_across_ranks(range(len(sequences)), record_of)
    if is_rank_zero():
        folder.write_tables(records)
    return records


@dataclass(frozen=True)
class Validated:
    """What a validation makes of a sequence; strip: a few of its frames, where they are drawn."""

    record: SequenceRecord
    strip: OverlayStrip | None = None

    @property
    def j_and_f(self) -> list[tuple[float, float]]:
        """(J, F) of every object, each in 0..1."""
        return [(score.region.mean, score.boundary.mean) for score in self.record.scores or ()]


class Validation:
    """What MetaModule asks for: a sequence as the predictor segments it. Those in `drawn` are drawn, too.

    Its randomness is its own: validation leaves the state of training as it is.
    """

    def __init__(self, finetune: Finetune, seed: int, drawn: Sequence[VideoSequence] = ()) -> None:
        self.finetune = finetune
        self.seed = seed
        self.drawn = drawn

    def __call__(self, learner: MetaLearner, sequence: VideoSequence) -> Validated:
        """Segment from the first masks, fine-tuning included."""
        predictor = Predictor(learner, self.finetune, seed=self.seed)
        if not any(sequence is one for one in self.drawn):
            return Validated(score_sequence(predictor, sequence))
        strip = OverlayStrip(sequence)
        return Validated(score_sequence(predictor, sequence, watch=strip.watch), strip)
