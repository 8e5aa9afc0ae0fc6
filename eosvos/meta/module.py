"""MetaModule: the meta-training loop (method, section 6)."""

import logging
import time
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from typing import Any, cast

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

Evaluate = Callable[[MetaLearner, VideoSequence], Sequence[tuple[float, float]]]
"""Segments a sequence from its first masks: (J, F) of every object, each in 0..1."""


class MetaModule(pl.LightningModule):
    """Meta-trains a learner: a training batch is this process's share of a meta batch, a validation batch one
    sequence.

    Every process adapts to its own tasks; the sums of their meta-gradients and the number of finite tasks
    are added up in one all-reduce per iteration, so that any number of processes takes the same step. DDP's
    reducer is not involved.

    iterations: how many meta iterations the schedule of the outer learning rates has. evaluate: scores a
    sequence in validation; None: no scores. Training ends with a UserError after
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
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.learner = learner
        self.meta = meta
        self.iterations = iterations
        self.seed = seed
        self.evaluate = evaluate
        self.iteration = 0
        self.nonfinite_iterations = 0
        self._nonfinite_tasks: list[str] = []
        self._scores: list[tuple[float, float]] = []

    def configure_optimizers(self) -> Any:
        """One optimiser with groups, and the schedule of its learning rates per meta iteration."""
        optimizer = build_optimizer(self.learner, self.meta.outer)
        schedule = build_schedule(optimizer, self.meta.outer.min_lr_ratio, self.iterations)
        return [optimizer], [{"scheduler": schedule}]

    def training_step(self, tasks: list[Task], batch_idx: int) -> None:
        """One meta iteration: adapt to each task, step along the mean meta-gradient of the finite ones."""
        started = time.perf_counter()
        gradients, (query, first, last, finite) = self.sum_over_tasks(tasks)
        self._step(gradients, int(finite))
        # Before anything that can fail: a checkpoint must not repeat a step that it holds.
        self.iteration += 1
        metrics = {"meta/nonfinite_tasks": len(tasks) * self.trainer.world_size - finite.item()}
        if finite:
            names = ("meta/query_loss", "meta/support_loss_first", "meta/support_loss_last")
            losses_by_name = zip(names, (query, first, last), strict=True)
            metrics |= {name: (total / finite).item() for name, total in losses_by_name}
        self._log_iteration({**metrics, "meta/seconds": time.perf_counter() - started}, self.iteration - 1)

    def sum_over_tasks(self, tasks: list[Task]) -> tuple[list[Tensor], Tensor]:
        """Sums over the finite tasks of all processes, whose own share is `tasks`.

        Returns the meta-gradients, in the order and shapes of `MetaLearner.meta_parameters()`, and
        float [4]: query loss, first and last support loss, number of tasks.
        """
        sums = [torch.zeros_like(p) for p in self.learner.meta_parameters()]
        sums.append(torch.zeros(4, device=self.device))
        for task in tasks:
            result = self._meta_gradient(task)
            if result is None:
                continue
            losses = torch.stack([result.query_loss, result.support_loss_first, result.support_loss_last])
            contribution = [*result.gradients, torch.cat([losses, losses.new_ones(1)])]
            torch._foreach_add_(sums, contribution)
        *gradients, losses = all_reduce_sum(sums)
        return gradients, losses

    def _meta_gradient(self, task: Task) -> MetaGradient | None:
        weights = self.meta.query_weights
        support = repeat((task.support_images, task.support_masks), len(weights))
        query = [
            (image[None], mask[None]) for image, mask in zip(task.query_images, task.query_masks, strict=True)
        ]
        with isolated_rng(self.seed, "adapt", task.iteration, task.slot):
            result = self.learner.meta_gradient(support, query, weights, self.meta.truncate_every)
        if result.is_finite():
            return result
        _log.warning(
            "iteration %d: task %s is left out: its loss or meta-gradient is not finite",
            task.iteration,
            task.name,
        )
        self._nonfinite_tasks.append(task.name)
        return None

    def _step(self, gradients: Sequence[Tensor], finite: int) -> None:
        optimizer = cast(Optimizer, self.optimizers())
        self.nonfinite_iterations = 0 if finite else self.nonfinite_iterations + 1
        never = not finite and not self.global_step and self.iteration + 1 == self.iterations
        if self.nonfinite_iterations >= self.meta.max_nonfinite_iterations or never:
            abort_all_ranks(
                f"no task had a finite loss in {self.nonfinite_iterations} meta iterations, up to "
                f"{self.iteration}; lower meta.inner_lr.init, meta.inner_lr.max or the lr of "
                "meta.outer.optimizer, or set meta.outer.max_grad_norm"
            )
        if finite:
            for parameter, gradient in zip(self.learner.meta_parameters(), gradients, strict=True):
                parameter.grad = gradient / finite
            clip_meta_gradient(optimizer, self.meta.outer.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            self.learner.clamp_inner_lrs()
        cast(LambdaLR, self.lr_schedulers()).step()

    def on_train_end(self) -> None:
        """Say once which tasks of all processes were left out."""
        names = sorted(chain(*all_gather(self._nonfinite_tasks)))
        if names and is_rank_zero():
            _log.warning(
                "%d tasks were left out, whose losses were not finite: %s", len(names), listing(names)
            )

    def _log_iteration(self, metrics: dict[str, float], iteration: int) -> None:
        if "meta/query_loss" in metrics:
            self.log("loss", metrics["meta/query_loss"], prog_bar=True, logger=False)
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it late
        if iteration % every == 0 or metrics["meta/nonfinite_tasks"]:
            self._write({**metrics, **self.learner.inner_lr_statistics()}, iteration)

    def _write(self, metrics: dict[str, float], iteration: int) -> None:
        # Lightning's own step counts optimiser steps, which stand still when no task was finite.
        for logger in self.loggers:
            logger.log_metrics(metrics, step=iteration)

    def validation_step(  # type: ignore[override]  # Lightning hands any value on to callbacks
        self, sequence: VideoSequence | None, batch_idx: int
    ) -> UserError | None:
        """Segment one sequence (None: this process has fewer than the others) and keep its scores.

        Returns the error where a file cannot be read: raised, it would leave the other processes waiting.
        """
        if sequence is not None and self.evaluate is not None:
            try:
                self._scores.extend(self.evaluate(self.learner, sequence))
            except UserError as error:
                return error
        return None

    def on_validation_epoch_end(self) -> None:
        """Average J and F over the objects of all processes' sequences, each counted once."""
        scores = torch.tensor(self._scores, dtype=torch.float64).reshape(-1, 2)
        self._scores = []
        [total] = all_reduce_sum(
            [torch.cat([scores.sum(0), torch.tensor([float(len(scores))])]).to(self.device)]
        )
        if self.evaluate is None:
            return
        if total[2] == 0:
            abort_all_ranks("no validation video has a frame to score: give masks for more of their frames")
        j, f = (total[:2] / total[2]).tolist()
        metrics = {"val/J": j, "val/F": f, "val/J&F": (j + f) / 2}
        self.log_dict(metrics, prog_bar=True, logger=False)
        self._write(metrics, self.iteration)
