"""The outer optimiser: one optimiser with groups for encoder, other weights and rates (method, section 6)."""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn
from torch.optim import Adam, Optimizer, RAdam
from torch.optim.lr_scheduler import LambdaLR

from eosvos.meta.learner import MetaLearner


@dataclass(frozen=True)
class GroupConfig:
    """Outer learning rate and decoupled weight decay of a group of meta-parameters."""

    lr: float
    decay: float = 0.0


@dataclass(frozen=True)
class OuterConfig:
    """How initial weights and learning rates are learned.

    clip: upper bound of the meta-gradient's Euclidean norm, for weights and for rates apart, or None.
    cosine_to: the outer rates fall along a half cosine to this fraction at the last iteration; None: they
    stay. freeze_encoder: the backbone (and region proposals) keep their initial weights.
    """

    name: Literal["radam", "adam"] = "radam"
    weights: GroupConfig = field(default_factory=lambda: GroupConfig(lr=1e-5, decay=1e-3))
    rates: GroupConfig = field(default_factory=lambda: GroupConfig(lr=1e-5))
    clip: float | None = None
    cosine_to: float | None = None
    freeze_encoder: bool = False


def build_optimizer(learner: MetaLearner, config: OuterConfig) -> Optimizer:
    """The optimiser over all meta-parameters, in groups named `encoder`, `heads` and `rates`."""
    encoder: list[nn.Parameter] = []
    heads: list[nn.Parameter] = []
    for name, parameter in learner.segmenter.named_parameters():
        if parameter.requires_grad:
            (encoder if name.startswith(("backbone.", "rpn.")) else heads).append(parameter)
    weights = dict(lr=config.weights.lr, weight_decay=config.weights.decay)
    groups = [
        dict(name="encoder", params=encoder, **weights | ({"lr": 0.0} if config.freeze_encoder else {})),
        dict(name="heads", params=heads, **weights),
        dict(name="rates", params=learner.rates(), lr=config.rates.lr, weight_decay=config.rates.decay),
    ]
    groups = [group for group in groups if group["params"]]
    if config.name == "radam":
        return RAdam(groups, decoupled_weight_decay=True)
    return Adam(groups, decoupled_weight_decay=True)


def build_schedule(optimizer: Optimizer, cosine_to: float | None, iterations: int) -> LambdaLR:
    """The factor of the outer rates at each iteration: 1, or a half cosine from 1 down to `cosine_to`."""

    def factor(iteration: int) -> float:
        if cosine_to is None:
            return 1.0
        progress = min(iteration / max(iterations, 1), 1.0)
        return cosine_to + (1 - cosine_to) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def clip_groups(optimizer: Optimizer, clip: float | None) -> None:
    """Scale the gradients of the weights, and apart from them those of the rates, to a norm of at most
    `clip`. What is frozen (a rate of 0) does not count.
    """
    if clip is None:
        return
    moving = [group for group in optimizer.param_groups if group["lr"] > 0]
    for of_rates in (False, True):
        groups = [group["params"] for group in moving if (group["name"] == "rates") == of_rates]
        torch.nn.utils.clip_grad_norm_([p for parameters in groups for p in parameters], clip)
