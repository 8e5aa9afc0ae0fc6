"""The evaluation at the end of training: what meta-learned weights and inner learning rates are worth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from eosvos.config.inference import Finetune
from eosvos.data.sequence import VideoSequence
from eosvos.data.splits import Videos
from eosvos.evaluation.reports import LEARNED
from eosvos.evaluation.results import ResultsFolder
from eosvos.evaluation.scoring import fill_folder, make_row, score_row
from eosvos.evaluation.tables import Row
from eosvos.inference.predictor import Predictor
from eosvos.meta.learner import MetaLearner


@dataclass(frozen=True)
class FinalEvaluation:
    """Test videos, videos to select the fixed learning rate on, and how learners are fine-tuned to both.

    test: by the name of their data set, "" for the only one. selection: each has a frame to score. lr_grid:
    fixed learning rates, ascending; the grid is extended where the best lies at its edge. folders: take the
    masks of the meta-learned rows, by data set, and so many `visualisations` each. initialisation: what the
    rows of the weights that meta-training started from are called; as_initialised: whether one has the
    learning rates that it started from, too.
    """

    test: Videos
    selection: Sequence[VideoSequence]
    finetune: Finetune
    lr_grid: Sequence[float]
    seed: int
    folders: Mapping[str, ResultsFolder] | None = None
    visualisations: int = 0
    initialisation: str = "initialisation"
    as_initialised: bool = False

    def rows(self, initial: MetaLearner | None, learned: MetaLearner | None) -> list[Row]:
        """The rows of the table: of each setting one for each data set.

        initial: as meta-training found it (None: not known any more); learned: as meta-training left it
        (None: there was none). Without videos to select on there are no rows with fixed learning rates.
        """
        rows: list[Row] = []
        alone = learned is None and not self.selection
        if initial is not None and (alone or self.as_initialised):
            rows += self.with_inner_lr(f"{self.initialisation}, initial learning rates", initial)
        if initial is not None and self.selection:
            longer = self.finetune.model_copy(update={"steps": 10 * self.finetune.steps})
            rows += self.with_fixed_lr(self.initialisation, initial, self.finetune)
            rows += self.with_fixed_lr(f"{self.initialisation}, {longer.steps} steps", initial, longer)
        if learned is not None:
            rows += self.with_inner_lr(LEARNED, learned, self.folders)
        if learned is not None and self.selection:
            rows += self.with_fixed_lr(LEARNED, learned, self.finetune)
        return rows

    def with_inner_lr(
        self, name: str, learner: MetaLearner, folders: Mapping[str, ResultsFolder] | None = None
    ) -> list[Row]:
        """Rows with the learner's own learning rates; folders, by data set, take the masks."""
        finetune = self.finetune.model_copy(update={"fixed_lr": None})
        if folders is None:
            return self._score(name, learner, finetune)
        predictor, shown = Predictor(learner, finetune, seed=self.seed), self.visualisations
        return [
            make_row(name, fill_folder(folders[dataset], predictor, videos, shown), dataset)
            for dataset, videos in self.test.items()
        ]

    def with_fixed_lr(self, name: str, learner: MetaLearner, finetune: Finetune) -> list[Row]:
        """Rows with the fixed learning rate that is best on the selection videos, which the name tells."""

        def with_lr(lr: float) -> Finetune:
            return finetune.model_copy(update={"fixed_lr": lr})

        def quality(lr: float) -> float:
            title = f"{name}, fixed learning rate {lr:.2g}, on the videos to select on"
            row = score_row(title, learner, with_lr(lr), self.selection, self.seed)
            score = row.figures()["J&F"]
            assert score is not None, "no video to select on has a frame to score"
            return score

        lr, inside = best_inside(self.lr_grid, quality)
        edge = "" if inside else " (at the edge of the grid)"
        name = f"{name}, fixed learning rate {lr:.2g}{edge}"
        return self._score(name, learner, with_lr(lr))

    def _score(self, name: str, learner: MetaLearner, finetune: Finetune) -> list[Row]:
        return [
            score_row(name, learner, finetune, videos, self.seed, dataset)
            for dataset, videos in self.test.items()
        ]


def best_inside(
    grid: Sequence[float], quality: Callable[[float], float], extensions: int = 3
) -> tuple[float, bool]:
    """The value of a grid of the best quality, and whether it lies inside the grid.

    grid: two values or more, ascending, above 0. Where the best lies at its edge, it grows there by the ratio
    of the two values next to the edge, at most `extensions` times in all.
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
