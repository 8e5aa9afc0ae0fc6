"""One object on its way through a video: its adapted segmenter, and the box that goes from frame to frame."""

import logging
from collections import deque
from collections.abc import Iterable
from itertools import repeat

import torch
from torch import Tensor

from eosvos.finite import all_finite
from eosvos.inference.finetune import Adapter, FinetuneConfig, first_frame_batches
from eosvos.models.proposals import tight_boxes
from eosvos.models.segmenter import THRESHOLD, Batch, Features, Segmenter
from eosvos.seeding import isolated_rng

_log = logging.getLogger(__name__)


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
    segmented beside it.
    """

    def __init__(
        self,
        adapter: Adapter,
        config: FinetuneConfig,
        image: Tensor,
        mask: Tensor,
        first: int,
        seed: tuple[int | str, ...],
    ) -> None:
        self._adapter = adapter
        self._config = config
        self._seed = seed
        self._first = first
        self._annotated = (image, mask)
        self._segment_prior = self._prior = mask_box(mask == 1)
        self._lost = False
        self._recent: deque[Batch] = deque(maxlen=config.online.every if config.online else 0)
        self._segmenter = self._adapted(first, first_frame_batches(image, mask, config, *seed))
        self._after_first_frame = self._segmenter

    def _adapted(self, frame: int, batches: Iterable[Batch], start: Segmenter | None = None) -> Segmenter:
        """What the adapter makes of batches before frame number `frame`; warns if it is of no use."""
        with isolated_rng(*self._seed, "adapt", frame):
            segmenter = self._adapter.adapt(batches, start=start)
        if not all_finite(segmenter.parameters()):
            _log.warning(
                "%s: fine-tuning at frame %d diverged, and the object is not found with what came out; set "
                "meta.rates.clip=5, or lower finetune.rate if that is set",
                ":".join(map(str, self._seed[1:])),
                frame,
            )
        return segmenter

    def frames_until_adaptation(self, frame: int) -> int | None:
        """How many frames from number `frame` on are segmented with the weights of now; None: all."""
        if self._config.online is None:
            return None
        every = self._config.online.every
        return every - (frame - self._first - 1) % every

    def adaptation_due(self, frame: int) -> bool:
        """Whether the weights change before frame number `frame`."""
        online = self._config.online
        passed = frame - self._first - 1
        return online is not None and passed > 0 and passed % online.every == 0

    @torch.no_grad()
    def advance(self, images: Tensor, frame: int) -> Tensor:
        """Segment the next frames, number `frame` and on, between two adaptations.

        images: float [B, 3, H, W] in 0..1. Returns the object's probability, float [B, H, W].
        """
        features = self._segmenter.features(images)
        return torch.stack([self._propagate(features, i, images[i], frame + i) for i in range(len(images))])

    def _propagate(self, features: Features, index: int, image: Tensor, frame: int) -> Tensor:
        prior = self._segment_prior if self._lost else self._prior
        with isolated_rng(*self._seed, "segment", frame):
            prediction = self._segmenter.segment(features, index, prior, search=self._lost)
        mask = prediction.probability >= THRESHOLD
        box = mask_box(mask)
        self._lost = box is None
        self._prior = self._prior if box is None else box
        if box is not None and self._config.online:
            self._recent.append((image, mask.to(torch.uint8)))
        return prediction.probability

    def adapt_online(self, frame: int) -> None:
        """Adapt to the annotated frame and to the predictions of the segment that ends before frame number
        `frame`.
        """
        online = self._config.online
        if online is None:
            return
        count = online.batch - 1
        recent = list(self._recent)
        chosen = recent[-count:] if online.frames == "latest" else recent[:count]
        pairs = [self._annotated, *(chosen if count else [])]
        batch = torch.stack([image for image, _ in pairs]), torch.stack([mask for _, mask in pairs])
        start: dict[str, Segmenter | None] = {
            "first_step": self._after_first_frame,
            "full": None,
            "none": self._segmenter,
        }
        self._segmenter = self._adapted(frame, repeat(batch, online.steps), start[online.reset])
        self._recent.clear()
        self._segment_prior = None if self._lost else self._prior
