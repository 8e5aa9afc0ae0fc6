"""What eosvos needs of learn2learn's update rule beyond its interface."""

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
from learn2learn.optim import ParameterUpdate
from torch import Tensor, nn


def transform_of(update: ParameterUpdate, position: int) -> nn.Module | None:
    """The transform of the parameter at a position; None if it has none."""
    index = update.transforms_indices[position]
    return None if index is None else cast(nn.Module, update.transforms_modules[index])


class PartlySecondOrderUpdate(ParameterUpdate):
    """Second-order updates for some parameters, first-order ones for the others (method, section 4).

    The gradients of `second_order` (by position among the parameters) keep their graph, mixed terms included;
    all others are constants. For networks in which some operation, such as RoIAlign, has no second
    derivative.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        transform: Callable[[nn.Parameter], nn.Module | None],
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
                transform = transform_of(self, i)
                if gradient is not None and transform is not None:
                    updates[i] = transform(gradient)
        return updates
