"""A light DeepLab: atrous spatial pyramid pooling (ASPP) on an encoder, and a decoder, after DeepLabV3+."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from eosvos.config import models as config
from eosvos.models.fpn import BackboneWithFPN
from eosvos.models.losses import bce, class_balanced_bce, dice
from eosvos.models.norms import group_norm
from eosvos.models.segmenter import THRESHOLD, Features, Segmenter

LOSSES: Mapping[str, Sequence[Callable[[Tensor, Tensor], Tensor]]] = {
    "dice_bce": (dice, bce),
    "dice": (dice,),
    "bce": (bce,),
    "class_balanced": (class_balanced_bce,),
}
"""The losses whose sum is minimised, by the setting `loss`."""


def _convolution(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Module:
    return Conv2dNormActivation(inputs, outputs, kernel, dilation=dilation, norm_layer=group_norm)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: 1x1 and dilated 3x3 convolutions, and the mean over the image."""

    def __init__(self, inputs: int, channels: int, dilations: Sequence[int]) -> None:
        super().__init__()
        views = [_convolution(inputs, channels, 1)]
        views += [_convolution(inputs, channels, 3, dilation) for dilation in dilations]
        self.views = nn.ModuleList(views)
        # No norm here: over a single place, a group norm would leave little but signs.
        self.whole = nn.Conv2d(inputs, channels, 1)
        self.project = _convolution(channels * (len(views) + 1), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, inputs, h, w] to [B, channels, h, w]."""
        whole = self.whole(x.mean((2, 3), keepdim=True)).relu().expand(-1, -1, *x.shape[2:])
        return self.project(torch.cat([view(x) for view in self.views] + [whole], dim=1))


class Decoder(nn.Module):
    """Upsamples the coarsest map step by step, merges the finer maps, and predicts logits at the finest."""

    def __init__(self, body_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        finer = list(body_channels[-2::-1])
        self.lateral = nn.ModuleList(_convolution(c, channels // 2, 1) for c in finer)
        self.merge = nn.ModuleList(_convolution(channels + channels // 2, channels, 3) for _ in finer)
        self.logits = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Map x [B, channels, h, w] and the encoder's `maps`, finest first, to logits [B, 1, h', w']."""
        for lateral, merge, skip in zip(self.lateral, self.merge, maps[-2::-1], strict=True):
            x = F.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=False)
            x = merge(torch.cat([x, lateral(skip)], dim=1))
        return self.logits(x)


class LightDeepLab(Segmenter):
    """Segments every frame by itself, with one logit per pixel; the prior is not used (method, section 2)."""

    second_order_everywhere: ClassVar[bool] = True

    def __init__(self, backbone: BackboneWithFPN, settings: config.LightDeepLab) -> None:
        """Build ASPP and decoder on the encoder of `backbone`; its feature pyramid is left out."""
        super().__init__()
        self.settings = settings
        self.backbone = backbone.body
        self.pooling = ASPP(backbone.body_channels[-1], settings.channels, settings.dilations)
        self.decoder = Decoder(backbone.body_channels, settings.channels)
        self.image_mean, self.image_std = backbone.image_mean, backbone.image_std

    def forward(self, images: Tensor) -> Tensor:
        """Map images float [B, 3, H, W] in 0..1 to logits [B, 1, h, w] at the stride of the finest map."""
        # Whatever behaves differently in training mode, such as dropout, has to be off in adaptation, too.
        self.eval()
        mean, std = (images.new_tensor(x)[:, None, None] for x in (self.image_mean, self.image_std))
        maps: OrderedDict[str, Tensor] = self.backbone((self._resized(images) - mean) / std)
        return self.decoder(self.pooling(maps[next(reversed(maps))]), list(maps.values()))

    def losses(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Return scalar losses by name; images float [B, 3, H, W] in 0..1, masks uint8 [B, H, W].

        Raises ValueError if a mask shows no object.
        """
        if not (masks == 1).flatten(1).any(1).all():
            raise ValueError("A mask shows no object (no pixel of value 1).")
        logits = _at_size(self(images), masks.shape[-2:])
        return {f"loss_{loss.__name__}": loss(logits, masks[:, None]) for loss in LOSSES[self.settings.loss]}

    def features(self, images: Tensor) -> Features:
        """Compute the logits, for nothing depends on earlier frames, of images float [B, 3, H, W] in 0..1."""
        height, width = images.shape[-2:]
        return Features({"logits": self(images)}, (height, width))

    def segment(
        self, features: Features, index: int, prior: Tensor | None = None, redetect: bool = False
    ) -> Tensor:
        """Turn the logits of frame `index` into probabilities [H, W]; see `Segmenter.segment`.

        `prior` [4] and `redetect` make no difference.
        """
        logits = features.maps["logits"][index : index + 1].detach()
        probability = _at_size(logits, features.size)[0, 0].sigmoid()
        return torch.where((probability >= THRESHOLD).any(), probability, 0)

    def head_parameters(self) -> list[nn.Parameter]:
        """Return all parameters: second derivatives exist everywhere."""
        return list(self.parameters())

    def _resized(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        short, long = min(height, width), max(height, width)
        min_size, max_size = self.settings.min_size, self.settings.max_size
        scale = min(min_size / short if min_size else 1, max_size / long if max_size else torch.inf)
        if scale == 1:
            return images
        size = (round(height * scale), round(width * scale))
        return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


def _at_size(logits: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
