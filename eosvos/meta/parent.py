"""Parent training: the segmenter learns to segment objects, supervised, before meta-training."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from eosvos.config.training import Parent
from eosvos.data.tasks import Task
from eosvos.meta.learner import MetaLearner, total_loss
from eosvos.meta.outer import build_schedule, torch_optimizer
from eosvos.processes import abort_all_ranks, all_gather
from eosvos.seeding import isolated_rng


class ParentModule(pl.LightningModule):
    """Trains a learner's initial weights on the support frames of tasks, whose masks may hold the ids of all
    objects of a frame; it does not change inner learning rates.

    Every process averages the losses of its share of the batch, and DDP averages the gradients.
    `time_spent`: see MetaModule.
    """

    def __init__(self, learner: MetaLearner, parent: Parent, seed: int = 0) -> None:
        super().__init__()
        self.learner = learner
        self.parent = parent
        self.seed = seed
        self.iteration = 0
        self.time_spent = 0.0

    def configure_optimizers(self) -> Any:
        """The optimiser of the weights, and the schedule of its learning rate per step."""
        parent = self.parent
        optimizer = torch_optimizer(parent.optimizer, self.learner.weights())
        schedule = build_schedule(
            optimizer, parent.min_lr_ratio, parent.steps, parent.warmup_steps, lambda: self.time_spent
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def training_step(self, tasks: list[Task], batch_idx: int) -> Tensor:
        """The mean loss over the tasks' support frames, scalar; all processes end if one is not finite."""
        losses = []
        for task in tasks:
            with isolated_rng(self.seed, "parent", task.iteration, task.slot):
                losses.append(total_loss(self.learner.segmenter, task.support_images, task.support_masks))
        loss = torch.stack(losses).mean()
        # All have to know before the backward pass, in which DDP makes them wait for one another.
        nonfinite = all_gather(None if torch.isfinite(loss) else ", ".join(task.name for task in tasks))
        if any(nonfinite):
            self._end(f"the loss of {', '.join(filter(None, nonfinite))}")
        self.log("parent/loss", loss.detach(), prog_bar=True)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip the gradient; end all processes, which have the same, if it is not finite."""
        norm = clip_grad_norm_(self.learner.weights(), self.parent.max_grad_norm or torch.inf)
        if not norm.isfinite():
            self._end("the gradient")

    def _end(self, what: str) -> None:
        abort_all_ranks(f"parent step {self.iteration}: {what} is not finite; lower parent.optimizer.lr")

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Take the step, and count it."""
        super().optimizer_step(*arguments, **options)
        self.iteration += 1
