"""MetaLearner: initial weights, inner learning rates, and the inner loop of training and inference."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from learn2learn import clone_module
from learn2learn.algorithms import GBML
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from eosvos.compat.learn2learn import PartlySecondOrderUpdate, transform_of
from eosvos.config.meta import InnerLR
from eosvos.errors import UserError
from eosvos.meta.inner_lr import LearningRate, lr_transform
from eosvos.models.segmenter import Batch, Segmenter


@dataclass(frozen=True)
class InnerStep:
    """The segmenter after an inner step, and the support loss (scalar) before it."""

    segmenter: Segmenter
    loss: Tensor


@dataclass(frozen=True)
class MetaGradient:
    """What one task contributes: gradients of the query loss in the order of `MetaLearner.parameters()`, and
    scalar losses.
    """

    gradients: list[Tensor]
    query_loss: Tensor
    support_loss_first: Tensor
    support_loss_last: Tensor

    def is_finite(self) -> bool:
        """Whether the losses and every gradient are finite."""
        tensors = [self.query_loss, self.support_loss_last, *self.gradients]
        return bool(get_total_norm(tensors).isfinite())


class MetaLearner(nn.Module):
    """Initial weights of a segmenter, and inner learning rates for them.

    order: "first_order" takes inner gradients as constants; "second_order_heads" differentiates through the
    gradients of the segmenter's `head_parameters()`; "second_order" through all. train_encoder: whether
    `segmenter.backbone` is adapted and learned. Raises UserError for "second_order" where the segmenter has
    no second derivative.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        inner_lr: InnerLR | None = None,
        order: Literal["first_order", "second_order_heads", "second_order"] = "first_order",
        train_encoder: bool = True,
    ) -> None:
        super().__init__()
        inner_lr = inner_lr or InnerLR()
        if order == "second_order" and not segmenter.second_order_everywhere:
            raise UserError(
                f"order={order} is impossible for {type(segmenter).__name__}, whose RoIAlign has no second "
                "derivative; use order=second_order_heads (second order for the heads only) or "
                "order=first_order"
            )
        if not train_encoder:
            segmenter.backbone.requires_grad_(False)
        self.inner_lr = inner_lr
        options = dict(first_order=order != "second_order", allow_unused=True, allow_nograd=True)
        transform = lr_transform(inner_lr)
        if order == "second_order_heads":
            heads = {id(p) for p in segmenter.head_parameters()}
            parameters = list(segmenter.parameters())
            positions = {i for i, p in enumerate(parameters) if id(p) in heads}
            options["compute_update"] = PartlySecondOrderUpdate(parameters, transform, positions)
        self.gbml = GBML(segmenter, transform=transform, **options)

    @property
    def segmenter(self) -> Segmenter:
        """The segmenter with the initial weights."""
        return cast(Segmenter, self.gbml.module)

    def weights(self) -> list[nn.Parameter]:
        """The initial weights that are learned, any shapes."""
        return [p for p in self.segmenter.parameters() if p.requires_grad]

    def inner_lrs(self) -> list[nn.Parameter]:
        """The inner learning rates (or their logarithms), each once, any shapes."""
        return list(self.gbml.compute_update.parameters())

    def meta_parameters(self) -> list[nn.Parameter]:
        """Initial weights, then inner learning rates: the order of `MetaGradient.gradients`."""
        return self.weights() + self.inner_lrs()

    def named_inner_lrs(self) -> Iterator[tuple[str, LearningRate]]:
        """The LearningRate of each learned weight, by the weight's name."""
        for position, (name, _) in enumerate(self.segmenter.named_parameters()):
            transform = transform_of(self.gbml.compute_update, position)
            if transform is not None:
                yield name, cast(LearningRate, transform)

    def inner_loop(
        self, batches: Iterable[Batch], differentiable: bool, start: Segmenter | None = None
    ) -> Iterator[InnerStep]:
        """The inner loop: one update p <- p - lr * gradient per batch (method, section 4).

        Yields after every step, and does not change this learner (or `start`). The yielded segmenter is one
        object, whose weights the next step replaces. With `differentiable`, its weights carry the graph to
        the initial weights and inner learning rates; otherwise every step starts from leaf weights, so that
        memory does not grow with the number of steps.

        batches: images float [B, 3, H, W] in 0..1, masks uint8 [B, H, W] of 0, 1, 255. start: a segmenter
        whose weights are adapted instead of the initial ones.
        """
        with torch.set_grad_enabled(differentiable):
            learner = self.gbml.clone()
            if start is not None:
                learner.module = clone_module(start)
        self._match_trainability(learner.module)
        for images, masks in batches:
            with torch.enable_grad():
                loss = total_loss(learner.module, images, masks)
            with torch.set_grad_enabled(differentiable):
                learner.adapt(loss)
            self._match_trainability(learner.module)
            yield InnerStep(learner.module, loss.detach())

    def _match_trainability(self, adapted: nn.Module) -> None:
        for initial, parameter in zip(self.segmenter.parameters(), adapted.parameters(), strict=True):
            if parameter.is_leaf:
                parameter.requires_grad_(initial.requires_grad)

    def adapt(
        self, batches: Iterable[Batch], differentiable: bool = False, start: Segmenter | None = None
    ) -> Segmenter:
        """The segmenter after one inner step per batch, see `inner_loop`; a copy of the start without any."""
        segmenter = None
        for step in self.inner_loop(batches, differentiable, start):
            segmenter = step.segmenter
        if segmenter is None:
            segmenter = copy.deepcopy(self.segmenter if start is None else start)
        return segmenter

    def meta_gradient(
        self,
        support: Iterable[Batch],
        query: Sequence[Batch],
        query_weights: Sequence[float],
        truncate_every: int | None = None,
    ) -> MetaGradient:
        """Gradient of the query loss after adaptation, with respect to the initial weights and the inner
        learning rates (method, section 6).

        support: one batch per inner step. query: batches whose losses are added up. query_weights: one per
        inner step; the query loss after step k is multiplied by query_weights[k] (0: it is not computed).
        truncate_every: detach the weights after every so many steps; query losses after that have gradients
        for the inner learning rates alone.
        """
        query_gradients: list[tuple[Tensor, Tensor]] = []
        query_losses: list[Tensor] = []
        support_losses: list[Tensor] = []
        for step, (inner, weight) in enumerate(
            zip(self.inner_loop(support, True), query_weights, strict=True), start=1
        ):
            support_losses.append(inner.loss)
            if weight:
                loss = weight * torch.stack([total_loss(inner.segmenter, *batch) for batch in query]).sum()
                query_gradients += _weights_and_gradients(inner.segmenter, loss)
                query_losses.append(loss.detach())
            if truncate_every and step % truncate_every == 0:
                _detach_parameters(inner.segmenter)
        # One backward pass through the inner steps for the query losses of all steps together.
        adapted, gradients = zip(*query_gradients, strict=True)
        parameters = self.meta_parameters()
        propagated = torch.autograd.grad(adapted, parameters, gradients, allow_unused=True)
        meta_gradient = [
            torch.zeros_like(p) if gradient is None else gradient
            for p, gradient in zip(parameters, propagated, strict=True)
        ]
        query_loss = torch.stack(query_losses).sum()
        return MetaGradient(meta_gradient, query_loss, support_losses[0], support_losses[-1])

    @torch.no_grad()
    def clamp_inner_lrs(self) -> None:
        """Clamp the inner learning rates to their bounds, as after every outer step."""
        for _, learning_rate in self.named_inner_lrs():
            learning_rate.clamp_(self.inner_lr.max)

    @torch.no_grad()
    def inner_lr_statistics(self) -> dict[str, float]:
        """Mean inner learning rate of all weights (`inner_lr/mean`), and of each block (`inner_lr/<block>`:
        the first two parts of the weights' names).
        """
        blocks: dict[str, list[Tensor]] = {}
        for name, learning_rate in self.named_inner_lrs():
            block = ".".join(name.split(".")[:2])
            blocks.setdefault(block, []).append(learning_rate.lr().reshape(-1))
        all_lrs = torch.cat([lr for lrs in blocks.values() for lr in lrs])
        per_block = {f"inner_lr/{block}": torch.cat(lrs).mean().item() for block, lrs in blocks.items()}
        return {"inner_lr/mean": all_lrs.mean().item(), **per_block}

    def with_fixed_lr(self, lr: float) -> "MetaLearner":
        """A learner with a copy of the same initial weights, and one fixed learning rate for all of them."""
        inner_lr = InnerLR(level="single", init=lr, max_grad_norm=self.inner_lr.max_grad_norm)
        learner = MetaLearner(copy.deepcopy(self.segmenter), inner_lr)
        for parameter in learner.inner_lrs():
            parameter.requires_grad_(False)
        return learner


def total_loss(segmenter: Segmenter, images: Tensor, masks: Tensor) -> Tensor:
    """The sum of a segmenter's losses, scalar (method, section 2).

    images: float [B, 3, H, W] in 0..1; masks: uint8 [B, H, W] of 0, 1, 255.
    """
    return torch.stack(list(segmenter.losses(images, masks).values())).sum()


def _weights_and_gradients(segmenter: Segmenter, loss: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The adapted weights that a loss (scalar) depends on, each with the loss's gradient."""
    weights = [p for p in segmenter.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    return [(p, g) for p, g in zip(weights, gradients, strict=True) if g is not None]


def _detach_parameters(module: nn.Module) -> None:
    for child in module.modules():
        for name, parameter in child._parameters.items():
            if parameter is not None:
                child._parameters[name] = cast(
                    nn.Parameter, parameter.detach().requires_grad_(parameter.requires_grad)
                )
