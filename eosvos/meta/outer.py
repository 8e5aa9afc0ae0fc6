"""The outer optimiser: parameter groups for encoder, heads and inner learning rates (method, section 6)."""

import math
from collections.abc import Mapping, Sequence
from pkgutil import resolve_name
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from eosvos.config.meta import Outer
from eosvos.errors import UserError
from eosvos.meta.learner import MetaLearner


def torch_optimizer(
    optimizer: Mapping[str, Any], parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]]
) -> Optimizer:
    """An optimiser of torch.optim over parameters (any shapes), or over groups of them.

    optimizer: the name of its class as `_target_`, and its keyword arguments. Raises UserError for a class
    that is no optimiser, for arguments that it does not take, and if it cannot take a step with them.
    """
    arguments = {name: value for name, value in optimizer.items() if name != "_target_"}
    target = str(optimizer.get("_target_"))
    try:
        optimizer_class = resolve_name(target)
    except (ImportError, AttributeError, ValueError):
        optimizer_class = None
    if not (isinstance(optimizer_class, type) and issubclass(optimizer_class, Optimizer)):
        raise UserError(f"optimizer: _target_={target} is no optimiser class, such as torch.optim.Adam")
    try:
        made = optimizer_class(parameters, **arguments)
        # What does not suit it may only show in a step: SparseAdam takes no dense gradients.
        trial = nn.Parameter(torch.zeros(1, 1, device=made.param_groups[0]["params"][0].device))
        trial.grad = torch.zeros_like(trial)
        optimizer_class([trial], **arguments).step()
        return made
    except Exception as error:  # Each of them checks in its own way.
        raise UserError(f"optimizer: {target} does not take {arguments}: {error}") from error


def build_optimizer(learner: MetaLearner, outer: Outer) -> Optimizer:
    """The optimiser of all meta-parameters, in groups named `encoder`, `heads` and `inner_lr`.

    Raises UserError like `torch_optimizer`.
    """
    encoder_ids = {id(p) for p in learner.segmenter.encoder_parameters()}
    weights = learner.weights()
    frozen = {"lr": 0.0} if outer.freeze_encoder else {}
    groups: list[dict[str, Any]] = [
        dict(name="encoder", params=[p for p in weights if id(p) in encoder_ids], **frozen),
        dict(name="heads", params=[p for p in weights if id(p) not in encoder_ids]),
        dict(name="inner_lr", params=learner.inner_lrs(), **outer.inner_lr.model_dump()),
    ]
    return torch_optimizer(outer.optimizer, [group for group in groups if group["params"]])


def build_schedule(optimizer: Optimizer, min_lr_ratio: float | None, iterations: int) -> LambdaLR:
    """Multiply the outer learning rates by a half cosine that falls from 1 to `min_lr_ratio`; None: by 1."""

    def factor(iteration: int) -> float:
        if min_lr_ratio is None:
            return 1.0
        progress = min(iteration / max(iterations, 1), 1.0)
        return min_lr_ratio + (1 - min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def clip_meta_gradient(optimizer: Optimizer, max_norm: float | None) -> None:
    """Scale the gradients of the initial weights, and apart from them those of the inner learning rates, to a
    norm of at most `max_norm`; None: do nothing. Groups with an outer learning rate of 0 do not count.
    """
    if max_norm is None:
        return
    learned = [group for group in optimizer.param_groups if group["lr"] > 0]
    for of_inner_lr in (False, True):
        groups = [group["params"] for group in learned if (group["name"] == "inner_lr") == of_inner_lr]
        torch.nn.utils.clip_grad_norm_([p for parameters in groups for p in parameters], max_norm)
