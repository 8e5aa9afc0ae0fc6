"""Propagation of one object through a video: its adapted segmenter, and its box from frame to frame."""

import warnings
from collections.abc import Iterable, Mapping
from itertools import cycle, islice
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from eosvos.config.inference import Finetune
from eosvos.inference.finetune import Adapter, annotated_batches, stacked
from eosvos.models.proposals import tight_boxes
from eosvos.models.segmenter import THRESHOLD, Batch, Features, Segmenter
from eosvos.seeding import isolated_rng

DIVERGED = (
    "fine-tuning diverged, and an object is not found after it: set meta.inner_lr.max_grad_norm to 5, or "
    "lower finetune.fixed_lr where it is set"
)


MOST_KEPT = 16
"""So many frames of a segment, and those of a batch, may wait; those that no adaptation takes go then."""


class ObjectTrack:
    """The state of one object: adapted by `annotate`, then advanced by `advance`, in the order of the frames.

    Everything that is drawn at random is a pure function of `seed` and the frame number, whatever else is
    segmented beside it. `diverged`: how many of its adaptations have left weights that are not finite.
    """

    def __init__(self, adapter: Adapter, finetune: Finetune, seed: tuple[int | str, ...]) -> None:
        self.diverged = 0
        self._adapter = adapter
        self._finetune = finetune
        self._seed = seed
        # The latest comes first.
        self._annotated: list[tuple[Tensor, Tensor]] = []
        self._segment_prior: Tensor | None = None
        # With whether the object was found.
        self._recent: list[tuple[Tensor, Tensor, Tensor]] = []

    def __copy__(self) -> Self:
        """The same state, to go on from later: it shares weights and frames, which do not change."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__, _annotated=self._annotated.copy(), _recent=self._recent.copy())
        return twin

    def state_dict(self) -> dict[str, Any]:
        """What the frames to come depend on, beside what the track is made of: tensors and plain values."""
        adapted = self._segmenter is not self._after_annotation
        return {
            "diverged": self.diverged,
            "annotated": self._annotated.copy(),
            "latest": self._latest,
            "recent": list(self._recent),
            "segment_prior": self._segment_prior,
            "prior": self._prior,
            "lost": self._lost,
            "after_annotation": self._after_annotation.state_dict(),
            "segmenter": self._segmenter.state_dict() if adapted else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave of a track that is made of the same."""
        self.diverged, self._annotated, self._latest = (
            state[name] for name in ("diverged", "annotated", "latest")
        )
        self._recent.extend(state["recent"])
        self._segment_prior, self._prior, self._lost = (
            state[name] for name in ("segment_prior", "prior", "lost")
        )
        self._segmenter = self._after_annotation = self._with_weights(state["after_annotation"])
        if state["segmenter"] is not None:
            self._segmenter = self._with_weights(state["segmenter"])

    def _with_weights(self, weights: Mapping[str, Tensor]) -> Segmenter:
        segmenter = self._adapter.adapt(())
        segmenter.load_state_dict(weights)
        return segmenter

    def annotate(self, image: Tensor, mask: Tensor, frame: int) -> None:
        """Fine-tune, from the meta-learned weights, on all annotated frames, of which this is the latest.

        image: float [3, H, W] in 0..1; mask: uint8 [H, W] of 0, 1, 255, the annotation in frame number
        `frame`. The object is followed from there, as from its first.
        """
        self._annotated.insert(0, (image, mask))
        self._latest = frame
        self._segment_prior = tight_boxes(mask[None] == 1)[0]
        self._prior = self._segment_prior
        self._lost = torch.zeros((), dtype=torch.bool, device=mask.device)
        self._recent.clear()
        batches = annotated_batches(self._annotated, self._finetune, *self._seed)
        self._segmenter = self._after_annotation = self._adapted(frame, batches)

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
        every = self._finetune.online.every
        return None if every is None else every - (frame - self._latest - 1) % every

    def adaptation_due(self, frame: int) -> bool:
        """Whether the weights change before frame number `frame`."""
        every = self._finetune.online.every
        passed = frame - self._latest - 1
        return every is not None and passed > 0 and passed % every == 0

    @torch.no_grad()
    def advance(self, images: Tensor, frame: int) -> Tensor:
        """Segment the next frames, number `frame` and on, between two adaptations.

        images: float [B, 3, H, W] in 0..1. Returns the object's probability, float [B, H, W].
        """
        features = self._segmenter.features(images)
        return torch.stack([self._propagate(features, i, images[i], frame + i) for i in range(len(images))])

    def _propagate(self, features: Features, index: int, image: Tensor, frame: int) -> Tensor:
        prior = self._prior_now()
        with isolated_rng(*self._seed, "segment", frame, cpu_only=True):
            probability = self._segmenter.segment(features, index, prior, redetect=self._lost)
        mask = probability >= THRESHOLD
        found = mask.any()
        self._prior = torch.where(found, tight_boxes(mask[None])[0], self._prior)
        self._lost = ~found
        if self._finetune.online.every is not None:
            self._recent.append((image, mask.to(torch.uint8), found))
            if len(self._recent) >= MOST_KEPT + self._finetune.online.batch_size:
                self._recent = self._chosen()
        return probability

    def _chosen(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """What online adaptation would take of the segment so far: frames in which the object was found.

        It waits for the device.
        """
        online = self._finetune.online
        found = torch.stack([found for *_, found in self._recent]).tolist() if self._recent else []
        recent = [one for one, seen in zip(self._recent, found, strict=True) if seen]
        count = min(online.batch_size - 1, len(recent))
        return recent[len(recent) - count :] if online.frames == "latest" else recent[:count]

    def _prior_now(self) -> Tensor | None:
        """The latest box of the object, or while it is lost the segment's first, if there is one."""
        if self._segment_prior is not None:
            return torch.where(self._lost, self._segment_prior, self._prior)
        return None if self._lost else self._prior

    def adapt_online(self, frame: int) -> None:
        """Adapt to the predictions of the segment that ends before frame number `frame`, with an annotated
        frame in each step, in turn.
        """
        online = self._finetune.online
        chosen = [(image, mask) for image, mask, _ in self._chosen()]
        batches = islice(cycle([stacked([pair, *chosen]) for pair in self._annotated]), online.steps)
        start: dict[str, Segmenter | None] = {
            "meta_init": None,
            "first_frame": self._after_annotation,
            "current": self._segmenter,
        }
        self._segmenter = self._adapted(frame, batches, start[online.reset])
        self._recent.clear()
        self._segment_prior = None if self._lost else self._prior
