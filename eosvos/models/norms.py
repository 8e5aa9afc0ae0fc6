"""Normalisation that does not change while a network adapts to one image: batch norms give way to others."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eosvos.config.models import Norm
from eosvos.errors import UserError

MAX_GROUPS = 32


class FrozenBatchNorm(nn.Module):
    """A batch norm that always uses the statistics it was given; weight and bias are trainable.

    The statistics `mean` and `var` [C] stay buffers, shared by all clones of the network and never updated.
    `act` follows the norm, for the libraries that fuse the two.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, mean: Tensor, var: Tensor, eps: float, act: nn.Module | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones_like(mean))
        self.bias = nn.Parameter(torch.zeros_like(mean))
        self.register_buffer("running_mean", mean.detach().clone())
        self.register_buffer("running_var", var.detach().clone())
        self.eps = eps
        self.act = act or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [B, C, H, W] per channel."""
        mean, var = self.running_mean, self.running_var
        return self.act(F.batch_norm(x, mean, var, self.weight, self.bias, training=False, eps=self.eps))


class GroupNormAct(nn.GroupNorm):
    """A group norm followed by an activation, in place of a batch norm that had one."""

    def __init__(self, num_groups: int, num_channels: int, act: nn.Module) -> None:
        super().__init__(num_groups, num_channels)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [B, C, H, W] per image and group of channels."""
        return self.act(super().forward(x))


def group_count(channels: int) -> int:
    """Return how many groups suit: the largest divisor of `channels` up to 32 that leaves two a group.

    Groups of one channel would normalise away how strong a feature is in an image. 1 if there is no such
    divisor.
    """
    return max(n for n in range(1, MAX_GROUPS + 1) if channels % n == 0 and (n == 1 or channels >= 2 * n))


def group_norm(channels: int) -> nn.GroupNorm:
    """Build a group norm of `group_count(channels)` groups; it fits as a `norm_layer` of torchvision."""
    return nn.GroupNorm(group_count(channels), channels)


def replace_norms(module: nn.Module, norm: Norm) -> nn.Module:
    """Replace every batch norm in `module`, frozen or not, in place; return the module (method, section 1).

    `group32`: group norm with 32 groups, which takes over weight and bias and drops the statistics;
    `group_auto`: the same with as many groups as suit the channels; `frozen_batch`: the statistics are kept
    as they are, weight and bias are trainable. Raises UserError for group32 where 32
    does not divide the channels.
    """
    if isinstance(getattr(module, "running_mean", None), Tensor):
        return _replacement(module, norm)
    for name, child in list(module.named_children()):
        setattr(module, name, replace_norms(child, norm))
    return module


def _replacement(old: nn.Module, norm: Norm) -> nn.Module:
    """Build what takes over weight and bias of `old`, a batch norm of torch, torchvision or timm."""
    mean, var = old.get_buffer("running_mean"), old.get_buffer("running_var")
    act: nn.Module | None = getattr(old, "act", None)
    channels = len(mean)
    if norm == "group32" and channels % MAX_GROUPS:
        raise UserError(
            f"norm=group32 needs channels that 32 divides, but a layer has {channels}; "
            "use group_auto or frozen_batch."
        )
    groups = MAX_GROUPS if norm == "group32" else group_count(channels)
    new: nn.Module
    if norm == "frozen_batch":
        new = FrozenBatchNorm(mean, var, float(old.eps), act)  # type: ignore[arg-type]
    else:
        new = (GroupNormAct(groups, channels, act) if act else nn.GroupNorm(groups, channels)).to(mean)
    if isinstance(old.weight, Tensor) and isinstance(old.bias, Tensor):
        new.load_state_dict({"weight": old.weight, "bias": old.bias}, strict=False)
    return new.train(old.training)
