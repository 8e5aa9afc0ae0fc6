"""MetaModule: the meta-training loop (method, section 6)."""

import logging
import time
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from typing import Any, Protocol, TypedDict, cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from eosvos.config.meta import Meta
from eosvos.data.sequence import VideoSequence
from eosvos.data.tasks import Task
from eosvos.errors import UserError, listing
from eosvos.meta.learner import MetaGradient, MetaLearner
from eosvos.meta.outer import build_optimizer, build_schedule, clip_meta_gradient
from eosvos.processes import abort_all_ranks, all_gather, all_reduce_sum, is_rank_zero
from eosvos.seeding import isolated_rng

_log = logging.getLogger(__name__)


class Evaluated(Protocol):
    """What is known of a segmented sequence."""

    @property
    def j_and_f(self) -> Sequence[tuple[float, float]]:
        """(J, F) of every object, each in 0..1."""


Evaluate = Callable[[MetaLearner, VideoSequence], Evaluated]
"""Segments a sequence from its first masks."""


class Iteration(TypedDict):
    """What a meta iteration gives to callbacks: it is of all processes.

    losses: means over the finite tasks, see `MetaModule.sum_over_tasks`; empty without one. left_out: names
    of the other tasks. grad_norms: of the mean meta-gradient before it is clipped, scalar, by group of the
    outer optimiser (empty without a step); lrs: of the step, by group. seconds: how long it took.
    """

    losses: list[float]
    left_out: list[str]
    grad_norms: dict[str, Tensor]
    lrs: dict[str, float]
    seconds: float


class MetaModule(pl.LightningModule):
    """Meta-trains a learner: a training batch is this process's share of a meta batch, a validation batch one
    sequence.

    Every process adapts to its own tasks; the sums of their meta-gradients and the number of finite tasks
    are added up in one all-reduce per iteration, so that any number of processes takes the same step. DDP's
    reducer is not involved.

    Callbacks log: they get the `Iteration`, and what `evaluate` makes of a sequence; `scores` has what the
    last validation has found, by name.

    iterations: how many meta iterations the schedule of the outer learning rates has; `time_spent`: the share
    of a limited time that is over, by which it may end before (see `build_schedule`). evaluate: scores a
    sequence in validation; None: no scores. val_sets: names of the data sets to validate on, in the order of
    their loaders; "" is that of the only one. Training ends with a UserError after
    `meta.max_nonfinite_iterations` meta iterations in a row without a finite task, and where no iteration had
    one.
    """

    def __init__(
        self,
        learner: MetaLearner,
        meta: Meta,
        iterations: int,
        seed: int = 0,
        evaluate: Evaluate | None = None,
        val_sets: Sequence[str] = ("",),
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.learner = learner
        self.meta = meta
        self.iterations = iterations
        self.seed = seed
        self.evaluate = evaluate
        self.iteration = 0
        self.time_spent = 0.0
        self.nonfinite_iterations = 0
        self._left_out: list[str] = []
        self._nonfinite_tasks: list[str] = []
        self.scores: dict[str, float] = {}
        self._scores: dict[str, list[tuple[float, float]]] = {name: [] for name in val_sets}

    def configure_optimizers(self) -> Any:
        """One optimiser with groups, and the schedule of its learning rates per meta iteration."""
        optimizer = build_optimizer(self.learner, self.meta.outer)
        min_lr_ratio = self.meta.outer.min_lr_ratio
        schedule = build_schedule(
            optimizer, min_lr_ratio, self.iterations, time_spent=lambda: self.time_spent
        )
        return [optimizer], [{"scheduler": schedule}]

    def training_step(self, tasks: list[Task], batch_idx: int) -> Iteration:
        """One meta iteration: adapt to each task, step along the mean meta-gradient of the finite ones."""
        started = time.perf_counter()
        self._left_out = []
        gradients, losses, count = self.sum_over_tasks(tasks)
        finite = int(count)
        lrs = {group["name"]: group["lr"] for group in cast(Optimizer, self.optimizers()).param_groups}
        grad_norms = self._step(gradients, finite)
        # Before anything that can fail: a checkpoint must not repeat a step that it holds.
        self.iteration += 1
        left_out: list[str] = []
        if finite < len(tasks) * self.trainer.world_size:
            left_out = sorted(chain(*all_gather(self._left_out)))
            self._nonfinite_tasks += left_out
        means = (losses / count).tolist() if finite else []
        if finite:
            self.log("loss", means[0], prog_bar=True, logger=False)
        seconds = time.perf_counter() - started
        return Iteration(losses=means, left_out=left_out, lrs=lrs, grad_norms=grad_norms, seconds=seconds)

    def sum_over_tasks(self, tasks: list[Task]) -> tuple[list[Tensor], Tensor, Tensor]:
        """Sums over the finite tasks of all processes, whose own share is `tasks`.

        Returns the meta-gradients, in the order and shapes of `MetaLearner.meta_parameters()`; float
        [1 + inner steps], the query loss and the support loss before each step, or the last one where the
        inner loop has ended early; the number of tasks (scalar).
        """
        steps = len(self.meta.query_weights)
        sums = [torch.zeros_like(p) for p in self.learner.meta_parameters()]
        sums.append(torch.zeros(2 + steps, device=self.device))
        for task in tasks:
            result = self._meta_gradient(task)
            if result is None:
                continue
            support = result.support_losses
            support = torch.cat([support, support[-1:].expand(steps - len(support))])
            ones = support.new_ones(1)
            contribution = [*result.gradients, torch.cat([result.query_loss[None], support, ones])]
            torch._foreach_add_(sums, contribution)
        *gradients, sums_of_losses = all_reduce_sum(sums)
        return gradients, sums_of_losses[:-1], sums_of_losses[-1]

    def _meta_gradient(self, task: Task) -> MetaGradient | None:
        weights = self.meta.query_weights
        support = repeat((task.support_images, task.support_masks), len(weights))
        query = [
            (image[None], mask[None]) for image, mask in zip(task.query_images, task.query_masks, strict=True)
        ]
        with isolated_rng(self.seed, "adapt", task.iteration, task.slot):
            result = self.learner.meta_gradient(
                support, query, weights, self.meta.truncate_every, self.meta.early_stopping
            )
        if result.is_finite():
            return result
        _log.warning(
            "iteration %d: task %s is left out: its loss or meta-gradient is not finite",
            task.iteration,
            task.name,
        )
        self._left_out.append(task.name)
        return None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what was not finite so far."""
        checkpoint["nonfinite"] = {"in_a_row": self.nonfinite_iterations, "tasks": [*self._nonfinite_tasks]}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting what is not finite."""
        before = checkpoint.get("nonfinite", {"in_a_row": 0, "tasks": []})
        self.nonfinite_iterations, self._nonfinite_tasks = before["in_a_row"], [*before["tasks"]]

    def _step(self, gradients: Sequence[Tensor], finite: int) -> dict[str, Tensor]:
        """Take the outer step, if a task was finite; returns the norms of the meta-gradient, by group."""
        optimizer = cast(Optimizer, self.optimizers())
        self.nonfinite_iterations = 0 if finite else self.nonfinite_iterations + 1
        if self.nonfinite_iterations >= self.meta.max_nonfinite_iterations:
            self._abort(self.iteration)
        norms: dict[str, Tensor] = {}
        if finite:
            for parameter, gradient in zip(self.learner.meta_parameters(), gradients, strict=True):
                parameter.grad = gradient / finite
            norms = clip_meta_gradient(optimizer, self.meta.outer)
            optimizer.step()
            self.learner.zero_grad()
            self.learner.clamp_inner_lrs()
        cast(LambdaLR, self.lr_schedulers()).step()
        return norms

    def _abort(self, iteration: int) -> None:
        abort_all_ranks(
            f"no task had a finite loss in {self.nonfinite_iterations} meta iterations, up to {iteration}; "
            "lower meta.inner_lr.init, meta.inner_lr.max or the lr of meta.outer.optimizer, or set "
            "meta.outer.max_grad_norm"
        )

    def on_train_end(self) -> None:
        """Say once which tasks of all processes were left out; end all processes if no step was taken."""
        if self.nonfinite_iterations and not self.global_step:
            self._abort(self.iteration - 1)
        names = sorted(self._nonfinite_tasks)
        if names and is_rank_zero():
            _log.warning(
                "%d tasks were left out, whose losses were not finite: %s", len(names), listing(names)
            )

    def validation_step(  # type: ignore[override]  # Lightning hands any value on to callbacks
        self, sequence: VideoSequence | None, batch_idx: int, dataloader_idx: int = 0
    ) -> Evaluated | UserError | None:
        """Segment one sequence (None: this process has fewer than the others) and keep its scores.

        dataloader_idx: the number of its data set. Returns what `evaluate` makes of it, or the error where a
        file cannot be read: raised, it would leave the other processes waiting.
        """
        if sequence is None or self.evaluate is None:
            return None
        try:
            # As the final evaluation and evaluate.py do it: precision is that of training.
            with torch.autocast(self.device.type, enabled=False):
                evaluated = self.evaluate(self.learner, sequence)
        except UserError as error:
            return error
        list(self._scores.values())[dataloader_idx].extend(evaluated.j_and_f)
        return evaluated

    def on_validation_epoch_end(self) -> None:
        """Take J and F of every data set, and their means over data sets, which the progress bar shows."""
        totals = self._score_totals()
        if self.evaluate is None:
            return
        scores = {}
        for name, total in totals.items():
            if total[2] == 0:
                of_set = f" of {name}" if name else ""
                abort_all_ranks(
                    f"no validation video{of_set} has a frame to score: give masks for more of their frames"
                )
            scores[name] = (total[:2] / total[2]).tolist()
        mean = _metrics("val", *(sum(values) / len(scores) for values in zip(*scores.values(), strict=True)))
        by_set: dict[str, float] = {}
        for name, (j, f) in scores.items():
            by_set |= _metrics(f"val/{name}", j, f) if name else {}
        self.log_dict(mean, prog_bar=True, logger=False)
        self.log_dict(by_set, logger=False)
        self.scores = mean | by_set

    def _score_totals(self) -> dict[str, Tensor]:
        """For each data set float64 [3]: sums of J and F over the objects of all processes' sequences, each
        counted once, and their number. They begin anew."""
        sums = []
        for scores in self._scores.values():
            of_set = torch.tensor(scores, dtype=torch.float64).reshape(-1, 2)
            sums.append(torch.cat([of_set.sum(0), torch.tensor([float(len(of_set))])]))
            scores.clear()
        [totals] = all_reduce_sum([torch.stack(sums).to(self.device)])
        return dict(zip(self._scores, totals, strict=True))


def _metrics(prefix: str, j: float, f: float) -> dict[str, float]:
    return {f"{prefix}/J": j, f"{prefix}/F": f, f"{prefix}/J&F": (j + f) / 2}
