"""Fine-tuning on an annotated frame: what the steps of the inner loop see at test time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from eosvos.data.augment import augment_frame
from eosvos.models.segmenter import Batch, Segmenter
from eosvos.seeding import derive_seed


class Adapter(Protocol):
    """What inference needs of a learner: the inner loop, and the segmenter that it starts from."""

    @property
    def segmenter(self) -> Segmenter:
        """The segmenter before any adaptation."""
        ...

    def adapt(
        self, batches: Iterable[Batch], differentiable: bool = False, start: Segmenter | None = None
    ) -> Segmenter:
        """The segmenter after one step per batch, images [B, 3, H, W] and masks [B, H, W]; the start stays as
        it is.
        """
        ...

    def with_rate(self, rate: float) -> "Adapter":
        """An adapter that starts from the same weights, with one hand-set learning rate for all of them."""
        ...


@dataclass(frozen=True)
class OnlineConfig:
    """Adaptation to the model's own predictions while the video goes by.

    every: frames between two adaptations. steps: inner steps of each. batch: the annotated frame and batch -
    1 frames of the last segment whose mask is not empty, its `latest` or `oldest` ones. reset: what each
    starts from, the weights after the first frame (`first_step`), the meta-learned ones (`full`), or the
    current ones (`none`).
    """

    every: int = 5
    steps: int = 10
    batch: int = 3
    reset: Literal["first_step", "full", "none"] = "first_step"
    frames: Literal["latest", "oldest"] = "oldest"


@dataclass(frozen=True)
class FinetuneConfig:
    """How an object's segmenter is made from its annotated frame and kept up to date.

    steps: inner steps on the annotated frame. batch: copies of it in each step. augment: draw each copy anew
    (flip, rotation, scale). lookahead: frames whose features are computed at once. rate: a hand-set learning
    rate in place of the adapter's own, or None. online: adaptation as the video goes by, or None.
    """

    steps: int = 10
    batch: int = 3
    augment: bool = True
    lookahead: int = 4
    rate: float | None = None
    online: OnlineConfig | None = None


def first_frame_batches(
    image: Tensor, mask: Tensor, config: FinetuneConfig, *seed: int | str
) -> Iterator[Batch]:
    """The batches of fine-tuning on one annotated frame, `config.steps` of them.

    image: float [3, H, W] in 0..1; mask: uint8 [H, W] of 0, 1, 255. Without augmentation all batches are the
    same. The augmentations are a pure function of `seed`.
    """
    generator = torch.Generator().manual_seed(derive_seed(*seed, "augment"))
    for _ in range(config.steps):
        if config.augment:
            pairs = [augment_frame(image, mask, generator) for _ in range(config.batch)]
            yield torch.stack([pair[0] for pair in pairs]), torch.stack([pair[1] for pair in pairs])
        else:
            yield image.expand(config.batch, -1, -1, -1), mask.expand(config.batch, -1, -1)
