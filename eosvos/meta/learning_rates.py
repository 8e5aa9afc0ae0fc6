"""Learned learning rates, as transforms of gradients that learn2learn's update rule applies (method, section
4).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from learn2learn.optim import ParameterUpdate
from torch import Tensor, nn

# The logarithm of a rate needs a smallest rate above zero.
_TINIEST = 1e-12


@dataclass(frozen=True)
class RateConfig:
    """What the learning rates of the inner loop look like.

    level: one rate for everything (`single`), per tensor, per output `neuron` (shape [p.shape[0], 1, ...]),
    or per value (`param`). init: initial rate; every rate is multiplied by 1 + u with u uniform in [-0.5,
    0.5), except a single one. log: learn the logarithm of the rate, which keeps it positive and makes outer
    steps relative. max: upper bound of a rate after every outer step, or None. clip: largest norm of a
    parameter's gradient in an inner step, to which a larger one is scaled down, or None. Without it, one bad
    step can be the first of a series that ends at infinity.
    """

    level: Literal["single", "tensor", "neuron", "param"] = "neuron"
    init: float = 1e-3
    log: bool = False
    max: float | None = None
    clip: float | None = None

    def __post_init__(self) -> None:
        if self.level not in ("single", "tensor", "neuron", "param"):
            raise ValueError(f"level must be single, tensor, neuron or param, not {self.level!r}")
        if self.init <= 0 or (self.max is not None and self.max < self.init):
            raise ValueError(f"need 0 < init <= max, got init={self.init}, max={self.max}")

    def shape(self, parameter: Tensor) -> tuple[int, ...]:
        """Shape of the rate of a parameter [N, ...]: broadcasts against it."""
        if self.level == "param":
            return tuple(parameter.shape)
        if self.level == "neuron" and parameter.dim() > 0:
            return (parameter.shape[0],) + (1,) * (parameter.dim() - 1)
        return ()


class Rate(nn.Module):
    """The rate(s) of one parameter tensor: maps its gradient, clipped, to its update, rate * gradient."""

    def __init__(self, value: nn.Parameter, log: bool, clip: float | None = None) -> None:
        super().__init__()
        self.value = value
        self.log = log
        self.clip = clip

    def rate(self) -> Tensor:
        """The rate itself, never its logarithm; any shape that broadcasts against the gradient [N, ...]."""
        return self.value.exp() if self.log else self.value

    def forward(self, gradient: Tensor) -> Tensor:
        """Scale a gradient [N, ...]."""
        if self.clip is not None:
            gradient = gradient * (self.clip / gradient.norm().clamp_min(self.clip))
        return self.rate() * gradient

    @torch.no_grad()
    def clamp_(self, maximum: float | None) -> None:
        """Keep the rate within [0, maximum], or [1e-12, maximum] where its logarithm is stored."""
        bounds = torch.tensor([_TINIEST if self.log else 0.0, torch.inf if maximum is None else maximum])
        low, high = (bounds.log() if self.log else bounds).tolist()
        self.value.clamp_(low, high)


def rate_transform(config: RateConfig) -> Callable[[nn.Parameter], Rate | None]:
    """A transform for learn2learn's GBML: gives each trainable parameter its Rate, and frozen ones none.

    Draws the initial rates from torch's global generator.
    """
    values: list[nn.Parameter] = []

    def make(parameter: nn.Parameter) -> Rate | None:
        if not parameter.requires_grad:
            return None
        if config.level != "single" or not values:
            value = torch.full(
                config.shape(parameter), config.init, dtype=parameter.dtype, device=parameter.device
            )
            if config.level != "single":
                value = value * (0.5 + torch.rand_like(value))
            values.append(nn.Parameter(value.log() if config.log else value))
        return Rate(values[-1], config.log, config.clip)

    return make


class HeadsSecondOrderUpdate(ParameterUpdate):
    """Second-order updates for some parameters, first-order ones for the others (method, section 4).

    The gradients of `second_order` (by position among the parameters) keep their graph, mixed terms included;
    all others are constants. For networks in which some operation, such as RoIAlign, has no second
    derivative.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        transform: Callable[[nn.Parameter], Rate | None],
        second_order: set[int],
    ) -> None:
        super().__init__(parameters=parameters, transform=transform)
        self.second_order = second_order

    def forward(self, loss: Tensor, parameters: Iterable[Tensor], **_: bool) -> list[Tensor | None]:
        """Updates of all parameters, each of its parameter's shape [N, ...]; None for frozen and unused ones.

        loss: scalar. The keyword arguments of the base class (create_graph and so on) are decided here
        instead.
        """
        parameters = list(parameters)
        updates: list[Tensor | None] = [None] * len(parameters)
        for keep_graph in (True, False):
            chosen = [
                i
                for i, p in enumerate(parameters)
                if p.requires_grad and (i in self.second_order) == keep_graph
            ]
            if not chosen:
                continue
            create_graph = keep_graph and torch.is_grad_enabled()
            gradients = torch.autograd.grad(
                loss,
                [parameters[i] for i in chosen],
                create_graph=create_graph,
                retain_graph=True,
                allow_unused=True,
            )
            for i, gradient in zip(chosen, gradients, strict=True):
                index = self.transforms_indices[i]
                if gradient is not None and index is not None:
                    updates[i] = self.transforms_modules[index](gradient)
        return updates
