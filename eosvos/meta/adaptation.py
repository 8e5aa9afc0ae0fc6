"""Inner steps of one task, and the meta-gradient of its query losses (method, sections 4 and 6)."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from learn2learn import clone_module
from learn2learn.algorithms import GBML
from torch import Tensor, nn

from eosvos.meta.inner_lr import LearningRate, clipped, lr_values
from eosvos.models.segmenter import Segmenter


class Adaptation:
    """Inner steps from a segmenter, which is not changed: p <- p - lr * gradient.

    `segmenter`: the adapted one, an object of its own, whose weights are leaves and change in place: no step
    keeps a graph. rates: by name, the learning rates of the weights that are adapted. max_grad_norm: see
    `InnerLR`.
    """

    def __init__(
        self, start: Segmenter, rates: Mapping[str, LearningRate], max_grad_norm: float | None = None
    ) -> None:
        self.rates = list(rates.values())
        with torch.no_grad():
            self.segmenter: Segmenter = clone_module(start)
            self.lrs = lr_values(self.rates)
        parameters = dict(self.segmenter.named_parameters())
        self.weights = [parameters[name].requires_grad_() for name in rates]
        self.max_grad_norm = max_grad_norm

    @torch.no_grad()
    def step(self, loss: Tensor) -> list[Tensor]:
        """Step along the gradient of a loss (scalar); returns the gradients of the weights, clipped."""
        gradients = clipped(self.gradients(loss), self.max_grad_norm)
        torch._foreach_sub_(self.weights, torch._foreach_mul(gradients, self.lrs))
        # Autocast keeps the weights that it has cast, and would go on with those before the step.
        torch.clear_autocast_cache()
        return gradients

    def gradients(self, loss: Tensor) -> list[Tensor]:
        """The gradients of a loss (scalar) with respect to the adapted weights, of their shapes."""
        return list(torch.autograd.grad(loss, self.weights, allow_unused=True, materialize_grads=True))


class FirstOrder(Adaptation):
    """Inner gradients g1 ... gK are constants, so the meta-gradient has a closed form: with the query
    gradient v, it is v for the initial weights, and -sum(v * (g1 + ... + gK)) for a learning rate, over the
    values that share it. Memory does not grow with the number of steps.
    """

    def __init__(self, *arguments: Any) -> None:
        """Take the arguments of `Adaptation`."""
        super().__init__(*arguments)
        self._truncated = False
        self._steps: list[Tensor] | None = None
        self._of_weights: list[Tensor] | None = None
        self._of_updates: list[Tensor] | None = None

    def step(self, loss: Tensor) -> list[Tensor]:
        """Step, and add the gradients to those of the steps before."""
        gradients = super().step(loss)
        self._steps = _sum(self._steps, gradients)
        return gradients

    def add_query(self, loss: Tensor) -> None:
        """Add a query loss (scalar) of the segmenter to the sum that the meta-gradient is of."""
        assert self._steps is not None, "a step comes first"
        v = self.gradients(loss)
        self._of_updates = _sum(self._of_updates, list(torch._foreach_mul(v, self._steps)))
        if not self._truncated:
            self._of_weights = _sum(self._of_weights, v)

    def truncate(self) -> None:
        """Cut the chain of inner steps: query losses to come do not reach the initial weights, nor the
        learning rates by the steps so far.
        """
        self._truncated, self._steps = True, None

    def meta_gradient(self, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
        """The gradient of the query losses with respect to the learned weights and the learning rates, which
        are the `parameters`.
        """
        assert self._of_updates is not None, "a query loss comes first"
        of_weights = self._of_weights or [torch.zeros_like(weight) for weight in self.weights]
        of_lrs = [
            total.sum_to_size(lr.shape)
            for total, lr in zip(torch._foreach_neg(self._of_updates), self.lrs, strict=True)
        ]
        # Through logarithms, to the parameters, of which one may be the learning rate of many weights.
        lrs = parameters[len(of_weights) :]
        return [*of_weights, *torch.autograd.grad(lr_values(self.rates), lrs, of_lrs)]


class Unrolled:
    """The same with a graph of the inner steps, by learn2learn's GBML, which decides about the order."""

    def __init__(self, gbml: GBML) -> None:
        self._learner = gbml.clone()
        self._queries: list[tuple[Tensor, Tensor]] = []

    @property
    def segmenter(self) -> Segmenter:
        """The adapted segmenter, whose weights each step replaces."""
        return cast(Segmenter, self._learner.module)

    def step(self, loss: Tensor) -> None:
        """Step along the gradient of a loss (scalar)."""
        self._learner.adapt(loss)

    def add_query(self, loss: Tensor) -> None:
        """Keep the query loss's gradient for one backward pass through the inner steps for all of them."""
        weights = [p for p in self.segmenter.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        self._queries += [(p, g) for p, g in zip(weights, gradients, strict=True) if g is not None]

    def truncate(self) -> None:
        """Go on from leaf weights."""
        for child in self.segmenter.modules():
            for name, parameter in child._parameters.items():
                if parameter is not None:
                    detached = parameter.detach().requires_grad_(parameter.requires_grad)
                    child._parameters[name] = cast(nn.Parameter, detached)

    def meta_gradient(self, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
        """See `FirstOrder`."""
        adapted, gradients = zip(*self._queries, strict=True)
        return list(
            torch.autograd.grad(adapted, parameters, gradients, allow_unused=True, materialize_grads=True)
        )


def _sum(total: list[Tensor] | None, terms: list[Tensor]) -> list[Tensor]:
    """`total`, if there is one, plus `terms` [...]."""
    return terms if total is None else list(torch._foreach_add(total, terms))
