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

    def row(self, name: str, learner: MetaLearner, finetune: FinetuneConfig) -> ReportRow:
        """A row of the table."""
        return score_row(name, learner, finetune, self.test, self.seed)

    def learned(self, name: str, learner: MetaLearner) -> ReportRow:
        """The row that is kept: with its masks in the folder, if there is one."""
        if self.folder is None:
            return self.row(name, learner, self.finetune)
        predictor = Predictor(learner, self.finetune, seed=self.seed)
        return ReportRow(name, tuple(fill_folder(self.folder, predictor, self.test, self.strips)))

    def with_best_rate(self, name: str, learner: MetaLearner, finetune: FinetuneConfig) -> ReportRow:
        """A row with the hand-set rate that is best on the tuning videos, which the row's name tells."""

        def quality(rate: float) -> float:
            row = score_row("", learner, replace(finetune, rate=rate), self.tuning, self.seed)
            return row.figures()["J&F"] or 0.0

        rate = best_inside(self.rates, quality)
        return self.row(f"{name}, rate {rate:.2g}", learner, replace(finetune, rate=rate))


def best_inside(grid: Sequence[float], quality: Callable[[float], float], extensions: int = 3) -> float:
    """The value of a grid whose quality is best, after extending the grid where the best lies at its edge.

    grid: two values or more, ascending, above 0. It grows by the ratio of the two values next to the edge, at
    most `extensions` times on either side.
    """
    values = {value: quality(value) for value in grid}
    for _ in range(extensions):
        ordered = sorted(values)
        best = max(ordered, key=lambda value: values[value])
        if best == ordered[0]:
            further = ordered[0] ** 2 / ordered[1]
        elif best == ordered[-1]:
            further = ordered[-1] ** 2 / ordered[-2]
        else:
            break
        values[further] = quality(further)
    return max(values, key=lambda value: values[value])


def compare(before: MetaLearner | None, after: MetaLearner | None, comparison: Comparison) -> list[ReportRow]:
    """The rows of the report.

    before: the weights that meta-training started from (None: not known any more); after: what it has learned
    (None: there was no meta-training). Without tuning videos there are no rows with hand-set rates.
    """
    finetune = comparison.finetune
    rows = []
    if before is not None and comparison.tuning:
        longer = replace(finetune, steps=10 * finetune.steps)
        rows.append(comparison.with_best_rate("before", before, finetune))
        rows.append(comparison.with_best_rate("before, ten times the steps", before, longer))
    if after is not None:
        rows.append(comparison.learned("after", after))
    if after is not None and comparison.tuning:
        rows.append(comparison.with_best_rate("after with a hand-set rate", after, finetune))
    return rows
