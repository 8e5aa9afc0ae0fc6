"""What takes coarse maps back to the resolution of finer ones."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from eosvos.models.norms import group_norm


def convolution(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Module:
    """Build a convolution with a group norm and a ReLU, which keeps the size of maps [B, inputs, h, w]."""
    return Conv2dNormActivation(inputs, outputs, kernel, dilation=dilation, norm_layer=group_norm)


class Decoder(nn.Module):
    """Upsamples a map step by step, and merges a finer one of the encoder in each (Chen et al., ECCV 2018).

    `finer`: the channels of the finer maps, coarsest first, each of which is reduced to `reduced` channels.
    """

    def __init__(self, finer: Sequence[int], channels: int, reduced: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(convolution(c, reduced, 1) for c in finer)
        self.merge = nn.ModuleList(convolution(channels + reduced, channels, 3) for _ in finer)

    def forward(self, x: Tensor, finer: Sequence[Tensor]) -> Tensor:
        """Map x [B, channels, h, w] and maps [B, C, h', w'], coarsest first, to the size of the last one."""
        for lateral, merge, skip in zip(self.lateral, self.merge, finer, strict=True):
            x = at_size(x, skip.shape[-2:])
            x = merge(torch.cat([x, lateral(skip)], dim=1))
        return x


def at_size(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize x [B, C, h, w] bilinearly to `size` (H, W)."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
