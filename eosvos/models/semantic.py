"""A fully convolutional segmenter: atrous pooling on an encoder, and a decoder (after DeepLabV3+)."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from eosvos.errors import UserError
from eosvos.models.backbones import PyramidBackbone
from eosvos.models.losses import SEMANTIC_LOSSES
from eosvos.models.norms import group_norm
from eosvos.models.proposals import tight_boxes
from eosvos.models.segmenter import THRESHOLD, Features, Prediction, Segmenter


def _convolution(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> nn.Module:
    return Conv2dNormActivation(inputs, outputs, kernel, dilation=dilation, norm_layer=group_norm)


class AtrousPooling(nn.Module):
    """Views of different reach around every place: 1x1, 3x3 at the dilations `rates`, the whole image."""

    def __init__(self, inputs: int, channels: int, rates: Sequence[int]) -> None:
        super().__init__()
        views = [_convolution(inputs, channels, 1)] + [_convolution(inputs, channels, 3, r) for r in rates]
        self.views = nn.ModuleList(views)
        # No norm here: over a single place, a group norm would leave little but signs.
        self.whole = nn.Conv2d(inputs, channels, 1)
        self.project = _convolution(channels * (len(views) + 1), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, inputs, h, w] to [B, channels, h, w]."""
        whole = self.whole(x.mean((2, 3), keepdim=True)).relu().expand(-1, -1, *x.shape[2:])
        return self.project(torch.cat([view(x) for view in self.views] + [whole], dim=1))


class Decoder(nn.Module):
    """Leads the pooled coarsest map up through the finer ones to logits at the size of the finest."""

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


class SemanticSegmenter(Segmenter):
    """Segments every frame by itself, with one logit per pixel; the prior is not used (method section 2)."""

    second_order_everywhere: ClassVar[bool] = True

    def __init__(
        self,
        backbone: PyramidBackbone,
        loss: str = "dice_bce",
        channels: int = 64,
        rates: Sequence[int] = (1, 2, 4),
        min_size: int | None = None,
        max_size: int | None = None,
    ) -> None:
        """Build pooling and decoder on the encoder of `backbone`; its pyramid is left out.

        `loss`: dice_bce (their sum), dice, bce or class_balanced. `channels`: of pooling and decoder.
        `rates`: dilations of the pooling on the coarsest map. `min_size` and `max_size`: pixels, to which
        the shorter side is resized, and which the longer one may have at most, before anything is computed;
        None: as it is, and without a limit. Raises UserError for an unknown loss.
        """
        super().__init__()
        if loss not in SEMANTIC_LOSSES:
            raise UserError(f"segmenter.loss={loss} is unknown; choose one of {', '.join(SEMANTIC_LOSSES)}.")
        self.loss_functions = SEMANTIC_LOSSES[loss]
        self.backbone = backbone.body
        self.pooling = AtrousPooling(backbone.body_channels[-1], channels, rates)
        self.decoder = Decoder(backbone.body_channels, channels)
        self.image_mean, self.image_std = backbone.image_mean, backbone.image_std
        self.min_size, self.max_size = min_size, max_size

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
        return {f"loss_{loss.__name__}": loss(logits, masks[:, None]) for loss in self.loss_functions}

    def features(self, images: Tensor) -> Features:
        """Compute the logits, for nothing depends on earlier frames, of images float [B, 3, H, W] in 0..1."""
        height, width = images.shape[-2:]
        return Features({"logits": self(images)}, (height, width))

    def segment(
        self, features: Features, index: int, prior: Tensor | None = None, search: bool = False
    ) -> Prediction:
        """Turn the logits of frame `index` into probabilities; `prior` [4] and `search` make no difference.

        `score` is the mean probability inside the mask. Without a mask, `score` is the highest probability.
        """
        logits = features.maps["logits"][index : index + 1].detach()
        probability = _at_size(logits, features.size)[0, 0].sigmoid()
        mask = probability >= THRESHOLD
        if not mask.any():
            return Prediction(torch.zeros_like(probability), None, float(probability.max()))
        return Prediction(probability, tight_boxes(mask[None])[0], float(probability[mask].mean()))

    def head_parameters(self) -> list[nn.Parameter]:
        """Return all parameters: second derivatives exist everywhere."""
        return list(self.parameters())

    def _resized(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        short, long = min(height, width), max(height, width)
        scale = min(self.min_size / short if self.min_size else 1, (self.max_size or torch.inf) / long)
        if scale == 1:
            return images
        size = (round(height * scale), round(width * scale))
        return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


def _at_size(logits: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
