"""A light DeepLab: atrous spatial pyramid pooling (ASPP) on an encoder, and a decoder, after DeepLabV3+."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from eosvos.config import models as config
from eosvos.models.decoder import Decoder, convolution
from eosvos.models.fpn import BackboneWithFPN
from eosvos.models.semantic import SemanticSegmenter


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: 1x1 and dilated 3x3 convolutions, and the mean over the image."""

    def __init__(self, inputs: int, channels: int, dilations: Sequence[int]) -> None:
        super().__init__()
        views = [convolution(inputs, channels, 1)]
        views += [convolution(inputs, channels, 3, dilation) for dilation in dilations]
        self.views = nn.ModuleList(views)
        # No norm here: over a single place, a group norm would leave little but signs.
        self.whole = nn.Conv2d(inputs, channels, 1)
        self.project = convolution(channels * (len(views) + 1), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, inputs, h, w] to [B, channels, h, w]."""
        whole = self.whole(x.mean((2, 3), keepdim=True)).relu().expand(-1, -1, *x.shape[2:])
        return self.project(torch.cat([view(x) for view in self.views] + [whole], dim=1))


class LogitDecoder(Decoder):
    """Merges all finer maps of an encoder, and predicts logits at the finest."""

    def __init__(self, body_channels: Sequence[int], channels: int) -> None:
        super().__init__(body_channels[-2::-1], channels, channels // 2)
        self.logits = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Map x [B, channels, h, w] and the encoder's `maps`, finest first, to logits [B, 1, h', w']."""
        return self.logits(super().forward(x, maps[-2::-1]))


class LightDeepLab(SemanticSegmenter):
    """ASPP and a decoder on any encoder."""

    def __init__(self, backbone: BackboneWithFPN, settings: config.LightDeepLab) -> None:
        """Build ASPP and decoder on the encoder of `backbone`."""
        super().__init__(backbone, settings)
        self.pooling = ASPP(backbone.body_channels[-1], settings.channels, settings.dilations)
        self.decoder = LogitDecoder(backbone.body_channels, settings.channels)

    def logits(self, maps: Sequence[Tensor]) -> Tensor:
        """Map the encoder's maps [B, C, h, w], finest first, to logits [B, 1, h, w] at the finest."""
        return self.decoder(self.pooling(maps[-1]), maps)

    def head_parameters(self) -> list[nn.Parameter]:
        """Return all parameters: second derivatives exist everywhere."""
        return list(self.parameters())
