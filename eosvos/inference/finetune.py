"""Fine-tuning on an annotated frame: the batches of the inner loop at test time."""

from collections.abc import Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from eosvos.config.inference import Finetune
from eosvos.data.augment import augment_frame
from eosvos.models.segmenter import Batch, Segmenter
from eosvos.seeding import derive_seed


class Adapter(Protocol):
    """What inference needs of a learner: the segmenter before adaptation, and the inner loop."""

    @property
    def segmenter(self) -> Segmenter:
        """The segmenter before any adaptation."""
        ...

    def adapt(self, batches: Iterable[Batch], *, start: Segmenter | None = None) -> Segmenter:
        """The segmenter after one inner step per batch, images [B, 3, H, W] and masks [B, H, W].

        start: whose weights are adapted, without changing it; None: `segmenter`.
        """
        ...

    def with_fixed_lr(self, lr: float) -> "Adapter":
        """An adapter with the same initial weights, and one fixed learning rate for all of them."""
        ...


def first_frame_batches(image: Tensor, mask: Tensor, finetune: Finetune, *seed: int | str) -> Iterator[Batch]:
    """The batches of fine-tuning on one annotated frame, `finetune.steps` of them.

    image: float [3, H, W] in 0..1; mask: uint8 [H, W] of 0, 1, 255. Without augmentation all batches are the
    same. The augmentations are a pure function of `seed`.
    """
    generator = torch.Generator().manual_seed(derive_seed(*seed, "augment"))
    for _ in range(finetune.steps):
        if finetune.augment:
            pairs = [augment_frame(image, mask, generator) for _ in range(finetune.batch_size)]
            yield torch.stack([pair[0] for pair in pairs]), torch.stack([pair[1] for pair in pairs])
        else:
            yield image.expand(finetune.batch_size, -1, -1, -1), mask.expand(finetune.batch_size, -1, -1)
