"""Fine-tuning on annotated frames: the batches of the inner loop at test time."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle, islice
from math import gcd
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


def annotated_batches(
    annotated: Sequence[tuple[Tensor, Tensor]], finetune: Finetune, *seed: int | str
) -> Iterator[Batch]:
    """The batches of fine-tuning on an object's annotated frames, taken in turn: `finetune.steps` of them.

    annotated: images float [3, H, W] in 0..1 with masks uint8 [H, W] of 0, 1, 255. The augmentations are a
    pure function of `seed`.
    """
    size = finetune.batch_size
    copies: Iterator[tuple[Tensor, Tensor]] = cycle(annotated)
    distinct = finetune.distinct_copies if finetune.augment else len(annotated)
    if finetune.augment:
        generator = torch.Generator().manual_seed(derive_seed(*seed, "augment"))
        copies = (augment_frame(image, mask, generator) for image, mask in cycle(annotated))
    if distinct is None:
        yield from (stacked(list(islice(copies, size))) for _ in range(finetune.steps))
        return
    # None of the annotated frames is left out, nor are there more than the steps take.
    distinct = min(max(distinct, len(annotated)), finetune.steps * size)
    # The same tensors again, of which a frozen encoder computes the features once.
    copies = cycle(list(islice(copies, distinct)))
    # Made as they are taken.
    batches = (stacked(list(islice(copies, size))) for _ in range(distinct // gcd(distinct, size)))
    yield from islice(cycle(batches), finetune.steps)


def stacked(pairs: Sequence[tuple[Tensor, Tensor]]) -> Batch:
    """The batch of some images [3, H, W] and their masks [H, W]."""
    return torch.stack([image for image, _ in pairs]), torch.stack([mask for _, mask in pairs])
