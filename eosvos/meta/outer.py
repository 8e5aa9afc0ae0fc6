"""The outer optimiser of initial weights and inner learning rates (method, section 6)."""

import math
from collections.abc import Callable, Mapping, Sequence
from pkgutil import resolve_name
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from eosvos.config.meta import Outer
from eosvos.errors import UserError
from eosvos.meta.learner import MetaLearner
from eosvos.models.segmenter import Segmenter


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
    """The optimiser of all meta-parameters but the frozen ones, in groups named `weights` and `inner_lr`.

    Frozen are the parts of the segmenter in `outer.freeze`, and inner learning rates with `lr` 0. Raises
    UserError like `torch_optimizer`, if the segmenter has no such part, and if all is frozen.
    """
    frozen = _frozen_weights(learner.segmenter, outer.freeze)
    weights = [p for p in learner.weights() if id(p) not in frozen]
    groups: list[dict[str, Any]] = [{"name": "weights", "params": weights}] if weights else []
    if outer.inner_lr.lr:
        groups.append(dict(name="inner_lr", params=learner.inner_lrs(), **outer.inner_lr.model_dump()))
    if not groups:
        raise UserError(f"freeze={outer.freeze} and inner_lr.lr=0 leave nothing to learn: freeze less")
    return torch_optimizer(outer.optimizer, groups)


def _frozen_weights(segmenter: Segmenter, parts: Sequence[str]) -> set[int]:
    """The ids of the parameters in some parts of a segmenter; raises UserError if it has no such part."""
    children = {name: list(child.parameters()) for name, child in segmenter.named_children()}
    for part in parts:
        if not children.get(part):
            known = ", ".join(name for name, parameters in children.items() if parameters)
            raise UserError(f"freeze={list(parts)}: {type(segmenter).__name__} has no {part}, but {known}")
    return {id(p) for part in parts for p in children[part]}


def build_schedule(
    optimizer: Optimizer,
    min_lr_ratio: float | None,
    iterations: int,
    warmup: int = 0,
    time_spent: Callable[[], float] = lambda: 0.0,
) -> LambdaLR:
    """Multiply learning rates by a half cosine that falls from 1 to `min_lr_ratio` (None: by 1), and in the
    first `warmup` iterations by shares that rise evenly to 1, too.

    time_spent: the share of a limited time that is over; the cosine is as far as time or iterations are,
    whichever end first.
    """

    def factor(iteration: int) -> float:
        rise = min((iteration + 1) / (warmup + 1), 1.0)
        if min_lr_ratio is None:
            return rise
        progress = min(max(iteration / max(iterations, 1), time_spent()), 1.0)
        return rise * (min_lr_ratio + (1 - min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * progress)))

    return LambdaLR(optimizer, factor)


def clip_meta_gradient(optimizer: Optimizer, outer: Outer) -> dict[str, Tensor]:
    """Clip the gradients that an optimiser of `build_optimizer` steps along; returns the norm (scalar) that
    they had before, by the group's name.

    Every value is clamped to at most `outer.max_grad_value` either way; then the gradients of the initial
    weights, and apart from them those of the inner learning rates, are scaled to a norm of at most
    `outer.max_grad_norm`. None: neither.
    """
    norms = {}
    for group in optimizer.param_groups:
        norms[group["name"]] = get_total_norm([p.grad for p in group["params"] if p.grad is not None])
        if outer.max_grad_value is not None:
            torch.nn.utils.clip_grad_value_(group["params"], outer.max_grad_value)
        if outer.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(group["params"], outer.max_grad_norm)
    return norms
