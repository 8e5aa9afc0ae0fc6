"""The report at the end of training: what learned weights and learned rates are worth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from eosvos.data.sequence import VideoSequence
from eosvos.evaluation.report import ReportRow
from eosvos.evaluation.results import ResultsFolder
from eosvos.inference.finetune import FinetuneConfig
from eosvos.inference.predictor import Predictor
from eosvos.meta.learner import MetaLearner
from eosvos.run.scoring import fill_folder, score_row


@dataclass(frozen=True)
class Comparison:
    """What a report needs: videos to report on, others to choose rates on, and how both are fine-tuned.

    `start`: what the row of the weights that meta-training started from is called.
    `rates`: the grid of hand-set rates, ascending; it is extended where the best lies at its edge. `folder`:
    takes the masks of the row "after", and so many overlay `strips`.
    """

    test: Sequence[VideoSequence]
    tuning: Sequence[VideoSequence]
    finetune: FinetuneConfig
    rates: Sequence[float]
    seed: int
    folder: ResultsFolder | None = None
    strips: int = 0
    start: str = "before"

    def row(self, name: str, learner: MetaLearner, finetune: FinetuneConfig) -> ReportRow:
        """A row of the table."""
        return score_row(name, learner, finetune, self.test, self.seed)

    def learned(self, name: str, learner: MetaLearner) -> ReportRow:
        """A row with the learner's own rates; with masks in the folder, if there is one."""
        finetune = replace(self.finetune, rate=None)
        if self.folder is None:
            return self.row(name, learner, finetune)
        predictor = Predictor(learner, finetune, seed=self.seed)
        return ReportRow(name, tuple(fill_folder(self.folder, predictor, self.test, self.strips)))

    def with_best_rate(self, name: str, learner: MetaLearner, finetune: FinetuneConfig) -> ReportRow:
        """A row with the hand-set rate that is best on the tuning videos, which the row's name tells."""

        def quality(rate: float) -> float:
            row = score_row("", learner, replace(finetune, rate=rate), self.tuning, self.seed)
            return row.figures()["J&F"] or 0.0

        rate, inside = best_inside(self.rates, quality)
        note = "" if inside else " (at the edge of the grid)"
        return self.row(f"{name}, rate {rate:.2g}{note}", learner, replace(finetune, rate=rate))


def best_inside(
    grid: Sequence[float], quality: Callable[[float], float], extensions: int = 3
) -> tuple[float, bool]:
    """The value of a grid whose quality is best, after extending the grid where the best lies at its edge;
    and whether it lies inside.

    grid: two values or more, ascending, above 0. It grows by the ratio of the two values next to the edge, at
    most `extensions` times on either side.
    """
    values = {value: quality(value) for value in grid}
    while True:
        ordered = sorted(values)
        best = max(ordered, key=lambda value: values[value])
        inside = ordered[0] < best < ordered[-1]
        if inside or len(values) == len(grid) + extensions:
            return best, inside
        edge, neighbour = ordered[:2] if best == ordered[0] else ordered[:-3:-1]
        values[edge**2 / neighbour] = quality(edge**2 / neighbour)


def compare(before: MetaLearner | None, after: MetaLearner | None, comparison: Comparison) -> list[ReportRow]:
    """The rows of the report.

    before: the weights that meta-training started from (None: not known any more); after: what it has learned
    (None: there was no meta-training). Without tuning videos there are no rows with hand-set rates.
    """
    finetune, start = comparison.finetune, comparison.start
    rows = []
    if before is not None and after is None and not comparison.tuning:
        rows.append(comparison.learned(f"{start}, initial rates", before))
    if before is not None and comparison.tuning:
        longer = replace(finetune, steps=10 * finetune.steps)
        rows.append(comparison.with_best_rate(start, before, finetune))
        rows.append(comparison.with_best_rate(f"{start}, ten times the steps", before, longer))
    if after is not None:
        rows.append(comparison.learned("after", after))
    if after is not None and comparison.tuning:
        rows.append(comparison.with_best_rate("after with a hand-set rate", after, finetune))
    return rows
