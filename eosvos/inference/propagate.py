"""Propagation of one object through a video: its adapted segmenter, and its box from frame to frame."""

import warnings
from collections import deque
from collections.abc import Iterable
from itertools import repeat

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from eosvos.config.inference import Finetune
from eosvos.inference.finetune import Adapter, first_frame_batches
from eosvos.models.proposals import tight_boxes
from eosvos.models.segmenter import THRESHOLD, Batch, Features, Segmenter
from eosvos.seeding import isolated_rng

DIVERGED = (
    "fine-tuning diverged, and an object is not found after it: set inner_lr.max_grad_norm to 5, or lower "
    "fixed_lr where it is set"
)


def mask_box(mask: Tensor) -> Tensor | None:
    """The tight box float [4] (xmin, ymin, xmax, ymax; exclusive maximum) of a bool mask [H, W], or None if
    it is empty.
    """
    return tight_boxes(mask[None])[0] if mask.any() else None


class ObjectTrack:
    """The state of one object: adapted on its annotated frame at once, then advanced by `advance`, in the
    order of the frames.

    image: float [3, H, W] in 0..1; mask: uint8 [H, W] of 0, 1, 255, the annotation in frame number `first`.
    Everything that is drawn at random is a pure function of `seed` and the frame number, whatever else is
    segmented beside it. `diverged`: how many of its adaptations have left weights that are not finite.
    """

    def __init__(
        self,
        adapter: Adapter,
        finetune: Finetune,
        image: Tensor,
        mask: Tensor,
        first: int,
        seed: tuple[int | str, ...],
    ) -> None:
        self.diverged = 0
        self._adapter = adapter
        self._online = finetune.online
        self._seed = seed
        self._first = first
        self._annotated = (image, mask)
        self._segment_prior = self._prior = mask_box(mask == 1)
        self._redetect = False
        self._recent: deque[Batch] = deque(maxlen=finetune.online.every or 0)
        self._segmenter = self._adapted(first, first_frame_batches(image, mask, finetune, *seed))
        self._after_first_frame = self._segmenter

    def _adapted(self, frame: int, batches: Iterable[Batch], start: Segmenter | None = None) -> Segmenter:
        """The adapted segmenter for frame number `frame` and on; warns if its weights are not finite."""
        with isolated_rng(*self._seed, "adapt", frame):
            segmenter = self._adapter.adapt(batches, start=start)
        if not get_total_norm(segmenter.parameters()).isfinite():
            self.diverged += 1
            warnings.warn(DIVERGED, stacklevel=2)
        return segmenter

    def frames_until_adaptation(self, frame: int) -> int | None:
        """How many frames from number `frame` on are segmented with the present weights; None: all."""
        every = self._online.every
        return None if every is None else every - (frame - self._first - 1) % every

    def adaptation_due(self, frame: int) -> bool:
        """Whether the weights change before frame number `frame`."""
        every = self._online.every
        passed = frame - self._first - 1
        return every is not None and passed > 0 and passed % every == 0

    @torch.no_grad()
    def advance(self, images: Tensor, frame: int) -> Tensor:
        """Segment the next frames, number `frame` and on, between two adaptations.

        images: float [B, 3, H, W] in 0..1. Returns the object's probability, float [B, H, W].
        """
        features = self._segmenter.features(images)
        return torch.stack([self._propagate(features, i, images[i], frame + i) for i in range(len(images))])

    def _propagate(self, features: Features, index: int, image: Tensor, frame: int) -> Tensor:
        prior = self._segment_prior if self._redetect else self._prior
        with isolated_rng(*self._seed, "segment", frame):
            probability = self._segmenter.segment(features, index, prior, redetect=self._redetect)
        mask = probability >= THRESHOLD
        box = mask_box(mask)
        self._redetect = box is None
        self._prior = self._prior if box is None else box
        if box is not None:
            self._recent.append((image, mask.to(torch.uint8)))
        return probability

    def adapt_online(self, frame: int) -> None:
        """Adapt to the annotated frame and to the predictions of the segment that ends before frame number
        `frame`.
        """
        online, recent = self._online, list(self._recent)
        count = min(online.batch_size - 1, len(recent))
        chosen = recent[len(recent) - count :] if online.frames == "latest" else recent[:count]
        pairs = [self._annotated, *chosen]
        batch = torch.stack([image for image, _ in pairs]), torch.stack([mask for _, mask in pairs])
        start: dict[str, Segmenter | None] = {
            "meta_init": None,
            "first_frame": self._after_first_frame,
            "current": self._segmenter,
        }
        self._segmenter = self._adapted(frame, repeat(batch, online.steps), start[online.reset])
        self._recent.clear()
        self._segment_prior = None if self._redetect else self._prior
