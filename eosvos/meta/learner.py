"""MetaLearner: initial weights, inner learning rates, and the inner loop of training and inference."""

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from learn2learn.algorithms import GBML
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from eosvos.compat.learn2learn import PartlySecondOrderUpdate, transform_of
from eosvos.config.meta import EarlyStopping, InnerLR
from eosvos.errors import UserError
from eosvos.meta.adaptation import Adaptation, FirstOrder, Unrolled
from eosvos.meta.inner_lr import LearningRate, lr_transform
from eosvos.models.segmenter import Batch, FrozenMaps, Segmenter


@dataclass(frozen=True)
class MetaGradient:
    """What one task contributes: gradients of the query loss in the order of
    `MetaLearner.meta_parameters()`, the query loss (scalar), and the support loss before each inner step
    (float [steps taken]).
    """

    gradients: list[Tensor]
    query_loss: Tensor
    support_losses: Tensor

    def is_finite(self) -> bool:
        """Whether the losses and every gradient are finite."""
        tensors = [self.query_loss, self.support_losses, *self.gradients]
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
            segmenter.frozen_maps = FrozenMaps()
        self.inner_lr = inner_lr
        self.order = order
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

    def inner_loop(self, batches: Iterable[Batch], adaptation: Adaptation | Unrolled) -> Iterator[Tensor]:
        """The inner loop: one step of an adaptation per batch (method, section 4).

        Yields the support loss (scalar) before each step, after it. batches: images float [B, 3, H, W] in
        0..1, masks uint8 [B, H, W] of 0, 1, 255.
        """
        for images, masks in batches:
            with torch.enable_grad():
                loss = total_loss(adaptation.segmenter, images, masks)
                adaptation.step(loss)
            yield loss.detach()

    def adapt(self, batches: Iterable[Batch], start: Segmenter | None = None) -> Segmenter:
        """The segmenter after one inner step per batch, see `inner_loop`; a copy of the start without any.

        start: a segmenter whose weights are adapted instead of the initial ones. Neither is changed.
        """
        adaptation = Adaptation(start or self.segmenter, *self._rates())
        for _ in self.inner_loop(batches, adaptation):
            pass
        return adaptation.segmenter

    def _rates(self) -> tuple[dict[str, LearningRate], float | None]:
        return dict(self.named_inner_lrs()), self.inner_lr.max_grad_norm

    def meta_gradient(
        self,
        support: Iterable[Batch],
        query: Sequence[Batch],
        query_weights: Sequence[float],
        truncate_every: int | None = None,
        early_stopping: EarlyStopping | None = None,
    ) -> MetaGradient:
        """Gradient of the query loss after adaptation, with respect to the initial weights and the inner
        learning rates (method, section 6).

        support: one batch per inner step. query: batches whose losses are added up. query_weights: one per
        inner step; the query loss after step k is multiplied by query_weights[k] (0: it is not computed).
        truncate_every: detach the weights after every so many steps; query losses after that have gradients
        for the inner learning rates alone. early_stopping: when to leave out the steps to come, whose query
        weights the last step then gets.
        """
        stopping = early_stopping or EarlyStopping()
        first_order = self.order == "first_order"
        adaptation = FirstOrder(self.segmenter, *self._rates()) if first_order else Unrolled(self.gbml)
        query_losses: list[Tensor] = []
        support_losses: list[Tensor] = []
        for step, (support_loss, weight) in enumerate(
            zip(self.inner_loop(support, adaptation), query_weights, strict=True), start=1
        ):
            support_losses.append(support_loss)
            stops = _has_stalled(support_losses, stopping)
            if stops:
                weight = sum(query_weights[step - 1 :])
            if weight:
                losses = [total_loss(adaptation.segmenter, *batch) for batch in query]
                loss = weight * torch.stack(losses).sum()
                adaptation.add_query(loss)
                query_losses.append(loss.detach())
            if stops:
                break
            if truncate_every and step % truncate_every == 0:
                adaptation.truncate()
        gradients = adaptation.meta_gradient(self.meta_parameters())
        query_loss = torch.stack(query_losses).sum()
        return MetaGradient(gradients, query_loss, torch.stack(support_losses))

    @torch.no_grad()
    def clamp_inner_lrs(self) -> None:
        """Clamp the inner learning rates to their bounds, as after every outer step."""
        for _, learning_rate in self.named_inner_lrs():
            learning_rate.clamp_(self.inner_lr.max)

    @torch.no_grad()
    def inner_lrs_by_block(self) -> dict[str, Tensor]:
        """The inner learning rates, float [N], of each block: the first two parts of the weights' names."""
        blocks: dict[str, list[Tensor]] = {}
        for name, learning_rate in self.named_inner_lrs():
            block = ".".join(name.split(".")[:2])
            blocks.setdefault(block, []).append(learning_rate.lr().reshape(-1))
        return {block: torch.cat(lrs) for block, lrs in blocks.items()}

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


def _has_stalled(losses: Sequence[Tensor], stopping: EarlyStopping) -> bool:
    """Whether the last `patience` of some losses (scalars) are no improvement on the lowest before each."""
    if stopping.patience is None:
        return False
    lowest, stalled = math.inf, 0
    for loss in torch.stack(list(losses)).tolist():
        improves = loss < lowest - stopping.min_delta
        lowest, stalled = (loss, 0) if improves else (lowest, stalled + 1)
    return stalled >= stopping.patience
