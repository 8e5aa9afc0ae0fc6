"""What semantic segmentation networks have in common: one logit per pixel, of every frame by itself."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from eosvos.compat.torchvision_waits import uploaded
from eosvos.config import models as config
from eosvos.models.decoder import at_size
from eosvos.models.fpn import BackboneWithFPN
from eosvos.models.losses import bce, class_balanced_bce, dice
from eosvos.models.segmenter import THRESHOLD, Features, Segmenter, object_pixels

LOSSES: Mapping[str, Sequence[Callable[[Tensor, Tensor], Tensor]]] = {
    "dice_bce": (dice, bce),
    "dice": (dice,),
    "bce": (bce,),
    "class_balanced": (class_balanced_bce,),
}
"""The losses whose sum is minimised, by the setting `loss`."""


class SemanticSegmenter(Segmenter):
    """Segments every frame by itself, with one logit per pixel (method, section 2).

    A network only has to define `logits` and `head_parameters`.
    """

    second_order_everywhere: ClassVar[bool] = True
    semantic: ClassVar[bool] = True

    def __init__(self, backbone: BackboneWithFPN, settings: config.Semantic) -> None:
        """Take the encoder of `backbone`; its feature pyramid is left out."""
        super().__init__()
        self.settings = settings
        self.backbone = backbone.body
        self.image_mean, self.image_std = backbone.image_mean, backbone.image_std

    @abstractmethod
    def logits(self, maps: Sequence[Tensor]) -> Tensor:
        """Map the encoder's maps [B, C, h, w], finest first, to logits [B, 1, h', w']."""

    def forward(self, images: Tensor) -> Tensor:
        """Map images float [B, 3, H, W] in 0..1 to logits [B, 1, h, w] of a size that the network chooses."""
        # Whatever behaves differently in training mode, such as dropout, has to be off in adaptation, too.
        self.eval()
        mean, std = (uploaded(x, images)[:, None, None] for x in (self.image_mean, self.image_std))
        maps = self.encoded(images, lambda: (self._resized(images) - mean) / std)
        return self.logits(list(maps.values()))

    def losses(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Return scalar losses by name; images float [B, 3, H, W] in 0..1, masks uint8 [B, H, W]."""
        labels = masks.masked_fill(object_pixels(masks), 1)[:, None]
        logits = at_size(self(images), masks.shape[-2:])
        return {f"loss_{loss.__name__}": loss(logits, labels) for loss in LOSSES[self.settings.loss]}

    def features(self, images: Tensor) -> Features:
        """Compute the logits, for nothing depends on earlier frames, of images float [B, 3, H, W] in 0..1."""
        height, width = images.shape[-2:]
        return Features({"logits": self(images)}, (height, width))

    def segment(
        self, features: Features, index: int, prior: Tensor | None = None, redetect: bool | Tensor = False
    ) -> Tensor:
        """Turn the logits of frame `index` into probabilities [H, W]; see `Segmenter.segment`.

        `prior` [4] makes a difference with prior=gate alone: far from its box the probability is 0.
        """
        logits = features.maps["logits"][index : index + 1].detach()
        probability = at_size(logits, features.size)[0, 0].sigmoid()
        if prior is not None and self.settings.prior == "gate":
            near = _near(prior, features.size, self.settings.gate_margin)
            probability = probability * (near | redetect)
        return probability.masked_fill(~(probability >= THRESHOLD).any(), 0)

    def _resized(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        short, long = min(height, width), max(height, width)
        min_size, max_size = self.settings.min_size, self.settings.max_size
        scale = min(min_size / short if min_size else 1, max_size / long if max_size else torch.inf)
        if scale == 1:
            return images
        size = (round(height * scale), round(width * scale))
        return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


def _near(box: Tensor, size: tuple[int, int], margin: float) -> Tensor:
    """Where pixels lie in a box [4], or beyond it by `margin` of its width or height at most: bool [H, W]."""
    reach = margin * (box[2:] - box[:2])
    low, high = box[:2] - reach, box[2:] + reach
    x, y = (torch.arange(length, device=box.device) + 0.5 for length in reversed(size))
    return ((y > low[1]) & (y < high[1]))[:, None] & ((x > low[0]) & (x < high[0]))
