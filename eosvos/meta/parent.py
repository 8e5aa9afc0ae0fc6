"""Parent training: the segmenter learns to segment objects, supervised, before meta-training."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from eosvos.config.training import Parent
from eosvos.data.tasks import Task
from eosvos.meta.learner import MetaLearner, total_loss
from eosvos.meta.outer import build_schedule, torch_optimizer
from eosvos.processes import abort_all_ranks, all_gather
from eosvos.seeding import isolated_rng


class ParentModule(pl.LightningModule):
    """Trains a learner's initial weights on the support frames of tasks; it does not change inner learning
    rates.

    Every process averages the losses of its share of the batch, and DDP averages the gradients.
    """

    def __init__(self, learner: MetaLearner, parent: Parent, seed: int = 0) -> None:
        super().__init__()
        self.learner = learner
        self.parent = parent
        self.seed = seed
        self.iteration = 0

    def configure_optimizers(self) -> Any:
        """The optimiser of the weights; its learning rate falls along a half cosine to a hundredth."""
        optimizer = torch_optimizer(self.parent.optimizer, self.learner.weights())
        schedule = build_schedule(optimizer, 0.01, self.parent.steps)
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
        """End all processes, which have the same gradient, if it is not finite; the weights stay."""
        gradients = [weight.grad for weight in self.learner.weights() if weight.grad is not None]
        if not get_total_norm(gradients).isfinite():
            self._end("the gradient")

    def _end(self, what: str) -> None:
        abort_all_ranks(f"parent step {self.iteration}: {what} is not finite; lower parent.optimizer.lr")

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Take the step, and count it."""
        super().optimizer_step(*arguments, **options)
        self.iteration += 1
