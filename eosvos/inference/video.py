"""VideoPredictor: the state of one video, which takes its frames one after the other."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import asdict, replace
from typing import Any, Self

import torch
from lightning_fabric.utilities import move_data_to_device
from torch import Tensor

from eosvos.config.inference import Finetune
from eosvos.data.arrays import IMAGE, MASK, Array, image_tensor, mask_tensor
from eosvos.data.sequence import visible_objects
from eosvos.data.tasks import object_mask
from eosvos.errors import UserError
from eosvos.inference.finetune import Adapter
from eosvos.inference.merge import ANNOTATED, merge_objects
from eosvos.inference.propagate import ObjectTrack
from eosvos.inference.resize import resized, resized_mask
from eosvos.inference.timing import Timing


class VideoPredictor:
    """Segments the objects of one video, frame by frame (method, section 7); `Predictor.video` makes it.

    A mask that comes with a frame shows new objects, which are followed from there, or corrects objects that
    are followed already: these are fine-tuned anew on all of their annotated frames. Each object has its own
    adapted segmenter, and does not influence the others. Holds a few frames at a time, and those annotated.
    A copy (`copy.copy`) goes on from the same frame by itself, and so does what is loaded with `state_dict`.

    adapter: a learner, which is not changed; everything is computed on its device. seed, name: fix everything
    that is drawn at random. `timing`: seconds so far.
    """

    def __init__(self, adapter: Adapter, finetune: Finetune, seed: int = 0, name: str = "video") -> None:
        self.timing = Timing()
        self._adapter = adapter
        self._finetune = finetune
        self._seed = (seed, name)
        self._device = next(adapter.segmenter.parameters()).device
        self._frame = 0
        self._size: tuple[int, int] | None = None
        self._tracks: dict[int, ObjectTrack] = {}

    def __copy__(self) -> Self:
        """The same state, to go on from later: it shares weights and frames, which do not change."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__, timing=copy(self.timing))
        twin._tracks = {object_id: copy(track) for object_id, track in self._tracks.items()}
        return twin

    def state_dict(self) -> dict[str, Any]:
        """What the frames to come depend on, beside what the predictor is made of, and `timing`: tensors and
        plain values, which `torch.load` reads with weights_only=True.
        """
        tracks = {object_id: track.state_dict() for object_id, track in self._tracks.items()}
        return {"size": self._size, "tracks": tracks, "timing": asdict(self.timing)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave of a predictor that is made of the same, wherever its tensors
        are. Raises KeyError, TypeError or RuntimeError if it is of another.
        """
        state = move_data_to_device(dict(state), self._device)
        self._size, self.timing = state["size"], Timing(**state["timing"])
        self._frame = self.timing.steps
        self._tracks = {object_id: self._track(object_id) for object_id in state["tracks"]}
        for object_id, track in self._tracks.items():
            track.load_state_dict(state["tracks"][object_id])

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the objects that are followed, ascending."""
        return tuple(sorted(self._tracks))

    def remove(self, object_id: int) -> None:
        """Follow an object no more; a later mask may show it again, as a new one. Raises UserError if it is
        not followed.
        """
        if object_id not in self._tracks:
            followed = ", ".join(map(str, self.object_ids)) or "none"
            raise UserError(f"object_id must be that of a followed object ({followed}), not {object_id!r}")
        del self._tracks[object_id]

    def step(self, image: Array, mask: Array | None = None) -> Tensor:
        """Take the next frame; returns its label map, uint8 [H, W] of object ids on the CPU.

        image: RGB, uint8 or float in 0..1, [H, W, 3] or [3, H, W], of one size in all frames. mask: whole
        numbers or bool [H, W]: 1 to 254 are the objects to begin with or to correct, as the label map then
        shows them, 0 is everything else, 255 is to be ignored. Raises UserError for anything else. Where it
        is interrupted, it is as if the frame had not been taken.
        """
        frame = image_tensor(image)
        size = (frame.shape[1], frame.shape[2])
        if self._size not in (None, size):
            raise UserError(f"{IMAGE}, of the video's size {list(self._size or ())}, not {list(size)}")
        labels = None if mask is None else mask_tensor(mask, size)
        if labels is not None and not visible_objects(labels):
            raise UserError(f"{MASK}; this one shows no object")
        tracks, timing = {i: copy(track) for i, track in self._tracks.items()}, replace(self.timing)
        before = self._size
        try:
            (segmented,) = self.steps([(frame, labels)])
        except BaseException:
            self._tracks, self.timing, self._frame, self._size = tracks, timing, timing.steps, before
            raise
        return segmented

    def steps(self, frames: Iterable[tuple[Tensor, Tensor | None]]) -> Iterator[Tensor]:
        """Take frames, images uint8 [3, H, W] with a mask uint8 [H, W] or None, as `step` takes each.

        The features of several frames are computed at once, so some are read ahead.
        """
        waiting: list[Tensor] = []
        for image, mask in frames:
            if waiting and (mask is not None or len(waiting) == self._frames_at_once()):
                yield from self._segment(waiting)
                waiting = []
            if mask is None:
                waiting.append(image)
            else:
                yield from self._segment([image], mask)
        if waiting:
            yield from self._segment(waiting)

    def _frames_at_once(self) -> int:
        """How many frames may be segmented at once: none before which an object adapts, but the first."""
        ends = [track.frames_until_adaptation(self._frame) for track in self._tracks.values()]
        return min([self._finetune.feature_batch_size, *(end for end in ends if end is not None)])

    def _segment(self, images: list[Tensor], mask: Tensor | None = None) -> list[Tensor]:
        """The label maps of the next frames; of one frame, if it has a mask."""
        height, width = self._size = (images[0].shape[1], images[0].shape[2])
        scale = (self._finetune.short_side or min(self._size)) / min(self._size)
        seen_size = round(height * scale), round(width * scale)
        given_size = torch.cat(images).to(self._device, non_blocking=True).float() / 255
        seen = resized(given_size, seen_size).unflatten(0, (-1, 3))
        given = {} if mask is None else {i: object_mask(mask, i) for i in visible_objects(mask)}
        probabilities = self._propagate(seen, [i for i in self._tracks if i not in given])
        for object_id, shown in given.items():
            shown = shown.to(self._device)
            self._annotate(object_id, seen[0], resized_mask(shown, seen_size))
            probabilities[object_id] = (shown == 1).float()[None] * ANNOTATED
        self._frame += len(images)
        self.timing.steps += len(images)
        merged = merge_objects(
            {i: resized(p, self._size) for i, p in probabilities.items()}, (len(images), *self._size)
        )
        return list(merged)

    def _annotate(self, object_id: int, image: Tensor, mask: Tensor) -> None:
        track = self._tracks.get(object_id) or self._track(object_id)
        with self._adaptation_of(track):
            track.annotate(image, mask, self._frame)
        self._tracks[object_id] = track

    def _track(self, object_id: int) -> ObjectTrack:
        """A new one."""
        return ObjectTrack(self._adapter, self._finetune, (*self._seed, object_id))

    def _propagate(self, images: Tensor, object_ids: list[int]) -> dict[int, Tensor]:
        """Probabilities [B, H, W] of objects in the next frames, after the adaptations that are due."""
        tracks = {i: self._tracks[i] for i in object_ids}
        for track in tracks.values():
            if track.adaptation_due(self._frame):
                with self._adaptation_of(track):
                    track.adapt_online(self._frame)
        started = self._now()
        probabilities = {i: track.advance(images, self._frame) for i, track in tracks.items()}
        if tracks:
            self.timing.propagation_seconds += self._now() - started
            self.timing.frames += len(images)
        return probabilities

    @contextmanager
    def _adaptation_of(self, track: ObjectTrack) -> Iterator[None]:
        """Count what the block does to a track as one adaptation."""
        started, diverged = self._now(), track.diverged
        yield
        self.timing.adaptation_seconds += self._now() - started
        self.timing.adaptations += 1
        self.timing.diverged += track.diverged - diverged

    def _now(self) -> float:
        """The time in seconds, after a GPU has finished its work."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
