"""A backbone with a feature pyramid network (FPN)."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from eosvos.errors import UserError
from eosvos.models.norms import group_norm

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PROBE_SIZE = 64
"""Side of the image with which an encoder is tried out, pixels."""


class BackboneWithFPN(nn.Module):
    """An encoder (`body`) and a feature pyramid (`fpn`) on top of it; parameters are named as torchvision's.

    `body` maps normalised images [B, 3, H, W] to an OrderedDict "0", "1", ... of maps, finest first, with
    the channels `body_channels` and the strides `body_strides`. `image_mean` and `image_std` are what the
    images are to be normalised with, `out_channels` is the number of channels of every pyramid level,
    `level_names` are their names; with `pooled_level` the last, "pool", is the one before at half its size.
    """

    def __init__(
        self,
        body: nn.Module,
        body_channels: Sequence[int],
        body_strides: Sequence[int],
        fpn_channels: int,
        pooled_level: bool = True,
        fpn_norm: bool = False,
        image_mean: Sequence[float] = IMAGENET_MEAN,
        image_std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.body = body
        pool = LastLevelMaxPool() if pooled_level else None
        self.fpn = FeaturePyramidNetwork(
            list(body_channels), fpn_channels, extra_blocks=pool, norm_layer=group_norm if fpn_norm else None
        )
        self.out_channels = fpn_channels
        self.body_channels, self.body_strides = tuple(body_channels), tuple(body_strides)
        self.image_mean, self.image_std = tuple(image_mean), tuple(image_std)
        self.level_names = tuple(map(str, range(len(self.body_channels)))) + (
            ("pool",) if pooled_level else ()
        )

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Compute the pyramid of normalised images [B, 3, H, W]: by name, maps [B, out_channels, h, w]."""
        return self.fpn(self.body(images))


def freeze_stages(body: nn.Module, stages: int) -> None:
    """Freeze what the `stages` finest maps of `body` depend on, as found by their gradients.

    Raises UserError if there are fewer maps.
    """
    parameters = list(body.parameters())
    # Whoever loads a checkpoint may have turned gradients off.
    with torch.enable_grad():
        maps = list(body(torch.zeros(1, 3, PROBE_SIZE, PROBE_SIZE)).values())
        if stages > len(maps):
            raise UserError(f"frozen_stages={stages} must lie in 0..{len(maps)}, the number of feature maps.")
        if stages == 0:
            return
        gradients = torch.autograd.grad(sum(x.sum() for x in maps[:stages]), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is None)
