"""The interface of every network that adapts to one object."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

if TYPE_CHECKING:
    from eosvos.models.compiled import CompiledEncoder

Batch = tuple[Tensor, Tensor]
"""Images float [B, 3, H, W] in 0..1, masks uint8 [B, H, W] of object ids, 0 and 255 (ignore): what a step
learns from. Adaptation has one object, 1; parent training has all of a frame."""

IGNORE = 255
"""The value of pixels that no loss counts."""

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


def object_pixels(masks: Tensor) -> Tensor:
    """Where masks uint8 [..., H, W] of object ids, 0 and 255 show an object, bool [..., H, W]."""
    return (masks > 0) & (masks != IGNORE)


class FrozenMaps(WeakTensorKeyDictionary):
    """Maps by the tensor of images that they are of, as long as that exists; a copy is empty."""

    def __deepcopy__(self, memo: object) -> "FrozenMaps":
        """Begin anew."""
        return FrozenMaps()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Begin anew where it is read."""
        return FrozenMaps, ()


class Segmenter(nn.Module, ABC):
    """A network that segments one object: all that the inner loop, the outer optimiser and inference need.

    Its parameters may be replaced by non-leaf tensors (learn2learn's `clone_module` and `update_module`),
    so nothing may cache them. It sets its own train or eval mode, and never updates a buffer.
    """

    second_order_everywhere: ClassVar[bool] = False
    """Whether second derivatives exist with respect to all parameters, not only `head_parameters()`."""

    semantic: ClassVar[bool] = False
    """Whether each pixel is labelled by itself, so that a mask may show no object, or nothing else."""

    backbone: nn.Module
    """The feature extractor. `MetaLearner` freezes it, and nothing else, if `train_encoder` is False."""

    frozen_maps: "FrozenMaps | None" = None
    """The maps of a backbone that is frozen, shared by all copies of the segmenter that are adapted."""

    compiled: "CompiledEncoder | None" = None
    """What runs the backbone, likewise shared; None: the backbone itself."""

    def encoded(self, images: Tensor, prepared: Callable[[], Tensor]) -> Mapping[str, Tensor]:
        """Return the backbone's maps [B, C, h, w] of `images` [B, 3, H, W], which `prepared` makes its input.

        A frozen backbone computes them once for the same tensor of images, whatever copy of the segmenter
        asks: for all steps on a batch, and for all objects of a frame.
        """
        encode = self.backbone if self.compiled is None else partial(self.compiled, self.backbone)
        if self.frozen_maps is None:
            return encode(prepared())
        if images not in self.frozen_maps:
            self.frozen_maps[images] = encode(prepared())
        return self.frozen_maps[images]

    @abstractmethod
    def losses(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Return the named scalar losses whose plain sum is minimised, in train mode with dropout off.

        `images` float [B, 3, H, W] in 0..1; `masks` uint8 [B, H, W] of 0 (background), 255 (ignore) and the
        ids of objects, which a detector tells apart and other networks learn as one. Raises ValueError if a
        mask shows no object, unless `semantic`. May draw from torch's global generator.
        """

    @abstractmethod
    def features(self, images: Tensor) -> Features:
        """Compute the features of frames `images` float [B, 3, H, W] in 0..1, in eval mode."""

    @abstractmethod
    def segment(
        self, features: Features, index: int, prior: Tensor | None = None, redetect: bool | Tensor = False
    ) -> Tensor:
        """Segment frame `index` of `features`, in eval mode.

        `prior` float [4] (xmin, ymin, xmax, ymax) in image pixels is the tight box, with exclusive maximum,
        of the object's mask in the previous frame, or None. `redetect`: the object is lost, so look beyond
        the prior whatever is configured; a bool, or one in a tensor [], for whose value a GPU has to be
        waited for. Returns the object's probability float [H, W] in 0..1 at the size of the original image,
        zero everywhere where the object is lost. May draw from torch's global generator of the CPU.
        """

    @abstractmethod
    def head_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that second-order gradients reach with order=second_order_heads."""
