"""The interface of every network that adapts to one object."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]
"""Images float [B, 3, H, W] in 0..1, masks uint8 [B, H, W] of 0, 1, 255 (ignore): what a step learns from."""

THRESHOLD = 0.5
"""Probability from which a pixel belongs to the object."""


@dataclass(frozen=True)
class Features:
    """What can be computed of frames before anything is known about the ones that precede them.

    `maps`: by name, feature maps [B, C, h, w] of B frames; `size`: (H, W) of the original images. Valid
    only as long as the weights they were computed with.
    """

    maps: Mapping[str, Tensor]
    size: tuple[int, int]


class Segmenter(nn.Module, ABC):
    """A network that segments one object: all that the inner loop, the outer optimiser and inference need.

    Its parameters may be replaced by non-leaf tensors (learn2learn's `clone_module` and `update_module`),
    so nothing may cache them. It sets its own train or eval mode, and never updates a buffer.
    """

    second_order_everywhere: ClassVar[bool] = False
    """Whether second derivatives exist with respect to all parameters, not only `head_parameters()`."""

    backbone: nn.Module
    """The feature extractor. `MetaLearner` freezes it, and nothing else, if `train_encoder` is False."""

    @abstractmethod
    def losses(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Return the named scalar losses whose plain sum is minimised, in train mode with dropout off.

        `images` float [B, 3, H, W] in 0..1; `masks` uint8 [B, H, W] of 0 (background), 1 (object) and 255
        (ignore). Raises ValueError if a mask shows no object. May draw from torch's global generator.
        """

    @abstractmethod
    def features(self, images: Tensor) -> Features:
        """Compute the features of frames `images` float [B, 3, H, W] in 0..1, in eval mode."""

    @abstractmethod
    def segment(
        self, features: Features, index: int, prior: Tensor | None = None, redetect: bool = False
    ) -> Tensor:
        """Segment frame `index` of `features`, in eval mode.

        `prior` float [4] (xmin, ymin, xmax, ymax) in image pixels is the tight box, with exclusive maximum,
        of the object's mask in the previous frame, or None. `redetect`: the object is lost, so look beyond
        the prior whatever is configured. Returns the object's probability float [H, W] in 0..1 at the size
        of the original image, zero everywhere where the object is lost. May draw from torch's global
        generator.
        """

    @abstractmethod
    def head_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that second-order gradients reach with order=second_order_heads."""

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that the outer optimiser's `freeze_encoder` holds: those of the backbone."""
        return list(self.backbone.parameters())
