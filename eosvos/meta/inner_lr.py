"""Inner learning rates, as gradient transforms of learn2learn's update rule (method, section 4)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from eosvos.config.meta import InnerLR

# The logarithm of a learning rate needs a smallest learning rate above zero.
_MIN_LR = 1e-12


class LearningRate(nn.Module):
    """The learning rate(s) of one parameter tensor: maps its gradient to its update, lr * gradient.

    value: the learning rates, or their logarithms with `log`. max_grad_norm: the gradient is scaled down to
    this norm if its norm is larger; None: it never is.
    """

    def __init__(self, value: nn.Parameter, log: bool, max_grad_norm: float | None = None) -> None:
        super().__init__()
        self.value = value
        self.log = log
        self.max_grad_norm = max_grad_norm

    def lr(self) -> Tensor:
        """The learning rate, never its logarithm; its shape broadcasts against the gradient [N, ...]."""
        return self.value.exp() if self.log else self.value

    def forward(self, gradient: Tensor) -> Tensor:
        """Scale a gradient [N, ...]."""
        if self.max_grad_norm is not None:
            gradient = gradient * (self.max_grad_norm / gradient.norm().clamp_min(self.max_grad_norm))
        return self.lr() * gradient

    @torch.no_grad()
    def clamp_(self, maximum: float | None) -> None:
        """Clamp the learning rate to [0, maximum], or to [1e-12, maximum] where its logarithm is stored."""
        bounds = torch.tensor([_MIN_LR if self.log else 0.0, torch.inf if maximum is None else maximum])
        low, high = (bounds.log() if self.log else bounds).tolist()
        self.value.clamp_(low, high)


def lr_values(rates: Sequence[LearningRate]) -> list[Tensor]:
    """`LearningRate.lr` of many, in one operation."""
    values: list[Tensor] = [rate.value for rate in rates]
    return list(torch._foreach_exp(values)) if rates[0].log else values


def clipped(gradients: list[Tensor], max_grad_norm: float | None) -> list[Tensor]:
    """Scale each of some gradients [N, ...] as `LearningRate` does, all in a few operations."""
    if max_grad_norm is None:
        return gradients
    norms = torch.stack(torch._foreach_norm(gradients)).clamp_min(max_grad_norm)
    return list(torch._foreach_mul(gradients, (max_grad_norm / norms).unbind()))


def lr_shape(parameter: Tensor, level: str) -> tuple[int, ...]:
    """Shape of the learning rate of a parameter [N, ...], which broadcasts against it.

    level: see `InnerLR`; per neuron the shape is [N, 1, ...].
    """
    if level == "param":
        return tuple(parameter.shape)
    if level == "neuron" and parameter.dim() > 0:
        return (parameter.shape[0],) + (1,) * (parameter.dim() - 1)
    return ()


def lr_transform(settings: InnerLR) -> Callable[[nn.Parameter], LearningRate | None]:
    """A transform for learn2learn's GBML: gives each trainable parameter its LearningRate, and others None.

    Draws the initial learning rates from torch's global generator.
    """
    values: list[nn.Parameter] = []
    shared = settings.level == "single"

    def make(parameter: nn.Parameter) -> LearningRate | None:
        if not parameter.requires_grad:
            return None
        if not shared or not values:
            shape = lr_shape(parameter, settings.level)
            value = torch.full(shape, settings.init, dtype=parameter.dtype, device=parameter.device)
            if not shared:
                value = value * (0.5 + torch.rand_like(value))
            values.append(nn.Parameter(value.log() if settings.log else value))
        return LearningRate(values[-1], settings.log, settings.max_grad_norm)

    return make
