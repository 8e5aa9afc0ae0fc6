"""MetaLearner: initial weights and learning rates, and the one inner loop of training, validation, test and
demo.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from learn2learn import clone_module
from learn2learn.algorithms import GBML
from torch import Tensor, nn

from eosvos.errors import UserError
from eosvos.finite import all_finite
from eosvos.meta.learning_rates import HeadsSecondOrderUpdate, Rate, RateConfig, rate_transform
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
        return all_finite([self.query_loss, self.support_loss_last, *self.gradients])


class MetaLearner(nn.Module):
    """Initial weights of a segmenter, and a learning rate for each of its neurons (tensors, values).

    order: "first" takes inner gradients as constants; "heads" differentiates through the gradients of the
    segmenter's `head_parameters()`; "full" through all. Raises UserError for "full" where the segmenter has
    no second derivative.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        rates: RateConfig | None = None,
        order: Literal["first", "heads", "full"] = "first",
        train_encoder: bool = True,
    ) -> None:
        super().__init__()
        rates = rates or RateConfig()
        if order == "full" and not segmenter.second_order_everywhere:
            raise UserError(
                f"meta.order=full is impossible for {type(segmenter).__name__}, whose RoIAlign has no second "
                "derivative; use meta.order=heads (second order for the heads only) or meta.order=first"
            )
        if not train_encoder:
            segmenter.backbone.requires_grad_(False)
        self.rate_config = rates
        options = dict(first_order=order != "full", allow_unused=True, allow_nograd=True)
        transform = rate_transform(rates)
        if order == "heads":
            heads = {id(p) for p in segmenter.head_parameters()}
            parameters = list(segmenter.parameters())
            positions = {i for i, p in enumerate(parameters) if id(p) in heads}
            options["compute_update"] = HeadsSecondOrderUpdate(parameters, transform, positions)
        self.gbml = GBML(segmenter, transform=transform, **options)

    @property
    def segmenter(self) -> Segmenter:
        """The segmenter with the initial weights."""
        return cast(Segmenter, self.gbml.module)

    def weights(self) -> list[nn.Parameter]:
        """The initial weights that are learned, any shapes."""
        return [p for p in self.segmenter.parameters() if p.requires_grad]

    def rates(self) -> list[nn.Parameter]:
        """The learning rates (or their logarithms), each once, any shapes."""
        return list(self.gbml.compute_update.parameters())

    def meta_parameters(self) -> list[nn.Parameter]:
        """Weights, then rates: the order of `MetaGradient.gradients`."""
        return self.weights() + self.rates()

    def named_rates(self) -> Iterator[tuple[str, Rate]]:
        """The Rate of each learned weight, by the weight's name."""
        update = self.gbml.compute_update
        for (name, _), index in zip(
            self.segmenter.named_parameters(), update.transforms_indices, strict=True
        ):
            if index is not None:
                yield name, cast(Rate, update.transforms_modules[index])

    def steps(
        self, batches: Iterable[Batch], differentiable: bool, start: Segmenter | None = None
    ) -> Iterator[InnerStep]:
        """The inner loop: one update p <- p - rate * gradient per batch (method, section 4).

        Yields after every step, and leaves this learner (and `start`) untouched. The yielded segmenter is one
        object whose weights the next step replaces. With `differentiable`, its weights carry the graph to the
        initial weights and rates; otherwise every step starts from leaf weights, so that memory does not grow
        with their number.

        start: a segmenter to go on from instead of the initial weights.
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
        for mine, its in zip(self.segmenter.parameters(), adapted.parameters(), strict=True):
            if its.is_leaf:
                its.requires_grad_(mine.requires_grad)

    def adapt(
        self, batches: Iterable[Batch], differentiable: bool = False, start: Segmenter | None = None
    ) -> Segmenter:
        """The segmenter after one inner step per batch; see `steps`. Without a batch: a copy of where it
        starts.
        """
        segmenter = None
        for step in self.steps(batches, differentiable, start):
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
        """Gradient of the query loss after adaptation with respect to initial weights and rates (method,
        section 6).

        support: one batch per inner step. query: batches whose losses are added up. query_weights: one weight
        per inner step; the query loss after step k counts with query_weights[k] (0: not taken).
        truncate_every: cut the chain of steps after every so many; query losses after a cut reach the rates
        alone.
        """
        directions: list[tuple[Tensor, Tensor]] = []
        query_losses: list[Tensor] = []
        support_losses: list[Tensor] = []
        for step, (inner, weight) in enumerate(
            zip(self.steps(support, True), query_weights, strict=True), start=1
        ):
            support_losses.append(inner.loss)
            if weight:
                loss = weight * torch.stack([total_loss(inner.segmenter, *batch) for batch in query]).sum()
                directions += _gradient_at(inner.segmenter, loss)
                query_losses.append(loss.detach())
            if truncate_every and step % truncate_every == 0:
                _cut(inner.segmenter)
        # All query gradients go back through the chain of inner steps together, once.
        parameters = self.meta_parameters()
        adapted, along = zip(*directions, strict=True)
        taken = torch.autograd.grad(adapted, parameters, along, allow_unused=True)
        gradients = [
            torch.zeros_like(p) if gradient is None else gradient
            for p, gradient in zip(parameters, taken, strict=True)
        ]
        return MetaGradient(gradients, torch.stack(query_losses).sum(), support_losses[0], support_losses[-1])

    @torch.no_grad()
    def clamp_rates(self) -> None:
        """Bring the rates back into their bounds, as after every outer step."""
        for _, rate in self.named_rates():
            rate.clamp_(self.rate_config.max)

    @torch.no_grad()
    def rate_statistics(self) -> dict[str, float]:
        """Mean rate overall (`rates/mean`) and per block (`rates/<first two parts of the weight's name>`)."""
        blocks: dict[str, list[Tensor]] = {}
        for name, rate in self.named_rates():
            blocks.setdefault(".".join(name.split(".")[:2]), []).append(rate.rate().reshape(-1))
        everything = torch.cat([value for values in blocks.values() for value in values])
        per_block = {f"rates/{block}": torch.cat(values).mean().item() for block, values in blocks.items()}
        return {"rates/mean": everything.mean().item(), **per_block}

    def with_rate(self, rate: float) -> "MetaLearner":
        """A learner with a copy of the same initial weights and one hand-set rate for all of them."""
        rates = RateConfig(level="single", init=rate, clip=self.rate_config.clip)
        learner = MetaLearner(copy.deepcopy(self.segmenter), rates)
        for parameter in learner.rates():
            parameter.requires_grad_(False)
        return learner


def total_loss(segmenter: Segmenter, images: Tensor, masks: Tensor) -> Tensor:
    """The plain sum of a segmenter's losses, scalar (method, section 2). images: [B, 3, H, W]; masks: [B, H,
    W].
    """
    return torch.stack(list(segmenter.losses(images, masks).values())).sum()


def _gradient_at(segmenter: Segmenter, loss: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The adapted weights that a loss (scalar) depends on, each with its gradient there."""
    weights = [p for p in segmenter.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    return [(p, g) for p, g in zip(weights, gradients, strict=True) if g is not None]


def _cut(module: nn.Module) -> None:
    for child in module.modules():
        for name, parameter in child._parameters.items():
            if parameter is not None:
                child._parameters[name] = cast(
                    nn.Parameter, parameter.detach().requires_grad_(parameter.requires_grad)
                )
