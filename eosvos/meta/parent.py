"""Supervised ("parent") training: the segmenter learns what objects are before it learns to be tuned."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from eosvos.data.tasks import Task
from eosvos.finite import all_finite
from eosvos.meta.learner import MetaLearner, total_loss
from eosvos.meta.outer import build_schedule
from eosvos.processes import end_all, gathered
from eosvos.seeding import isolated_rng


class ParentModule(pl.LightningModule):
    """Trains a learner's initial weights on the support frames of tasks; its learning rates are left alone.

    Every process averages the losses of its share of the batch, and DDP averages the gradients.
    """

    def __init__(
        self, learner: MetaLearner, steps: int, lr: float, decay: float = 1e-4, seed: int = 0
    ) -> None:
        super().__init__()
        self.learner = learner
        self.steps = steps
        self.lr = lr
        self.decay = decay
        self.seed = seed
        self.iteration = 0

    def configure_optimizers(self) -> Any:
        """Adam with decoupled decay over the weights, its rate falling along a half cosine to a hundredth."""
        optimizer = torch.optim.AdamW(self.learner.weights(), lr=self.lr, weight_decay=self.decay)
        schedule: LRScheduler = build_schedule(optimizer, 0.01, self.steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def training_step(self, tasks: list[Task], batch_idx: int) -> Tensor:
        """The mean loss over the tasks' support frames, scalar; all processes end if one is not finite."""
        losses = []
        for task in tasks:
            with isolated_rng(self.seed, "parent", task.iteration, task.slot):
                losses.append(total_loss(self.learner.segmenter, task.support_images, task.support_masks))
        loss = torch.stack(losses).mean()
        # All have to know before the backward pass, in which DDP makes them wait for one another.
        broken = gathered(None if torch.isfinite(loss) else ", ".join(task.name for task in tasks))
        if any(broken):
            names = ", ".join(filter(None, broken))
            end_all(f"parent step {self.iteration}: the loss of {names} is not finite; lower parent.lr")
        self.log("parent/loss", loss.detach(), prog_bar=True)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """End all processes, which have the same gradient, if it is not finite; the weights stay."""
        gradients = [weight.grad for weight in self.learner.weights() if weight.grad is not None]
        if not all_finite(gradients):
            end_all(f"parent step {self.iteration}: the gradient is not finite; lower parent.lr")

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Take the step, and count it."""
        super().optimizer_step(*arguments, **options)
        self.iteration += 1
