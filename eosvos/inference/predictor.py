"""Predictor: makes a label map for every frame of a video from its first masks."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from eosvos.config.inference import Finetune
from eosvos.data.arrays import Array, ArraySequence
from eosvos.data.sequence import VideoSequence
from eosvos.data.tasks import object_mask
from eosvos.errors import UserError
from eosvos.inference.finetune import Adapter
from eosvos.inference.merge import ANNOTATED, merge_objects
from eosvos.inference.propagate import ObjectTrack


@dataclass
class Timing:
    """Seconds that a sequence took: its adaptations (first frame and online, of all objects), and the
    propagation to the other frames.
    """

    adaptation_seconds: float = 0.0
    adaptations: int = 0
    propagation_seconds: float = 0.0
    frames: int = 0
    diverged: int = 0

    @property
    def seconds_per_adaptation(self) -> float:
        """Seconds of one adaptation of one object, on average; 0 if there was none."""
        return self.adaptation_seconds / max(self.adaptations, 1)

    @property
    def seconds_per_frame(self) -> float:
        """Seconds of one propagated frame, all objects together, on average; 0 if there was none."""
        return self.propagation_seconds / max(self.frames, 1)


class Predictor:
    """Segments the objects of a video from the frame in which each is first annotated (method, section 7).

    adapter: a learner, which is not changed; everything is computed on its device. seed: fixes, with the
    sequence's name, everything that is drawn at random. Each object has its own adapted segmenter, and does
    not influence the others.
    """

    def __init__(self, adapter: Adapter, finetune: Finetune, seed: int = 0) -> None:
        self.adapter = adapter if finetune.fixed_lr is None else adapter.with_fixed_lr(finetune.fixed_lr)
        self.finetune = finetune
        self.seed = seed
        self.device = next(adapter.segmenter.parameters()).device
        self.timing = Timing()

    def segment(self, sequence: VideoSequence) -> Iterator[tuple[str, Tensor]]:
        """Yield (frame name, label map uint8 [H, W] on the CPU) for every frame in order.

        Frames before the first annotation are background; where an object is first annotated, it is as the
        annotation shows it. Holds a few frames at a time, whatever the sequence's length. Raises UserError if
        no object is annotated in any frame.
        """
        if not sequence.object_ids:
            raise UserError(f"sequence {sequence.name}: no mask shows an object to segment")
        self.timing = Timing()
        firsts = {object_id: sequence.first_frame(object_id) for object_id in sequence.object_ids}
        tracks: dict[int, ObjectTrack] = {}
        frame = 0
        while frame < sequence.num_frames:
            self._adapt_online(tracks, frame)
            stop = self._chunk_end(sequence, firsts, tracks, frame)
            images = torch.stack([self._image(sequence, t) for t in range(frame, stop)])
            probabilities = self._advance(tracks, images, frame)
            for object_id in [o for o, first in firsts.items() if first == frame]:
                tracks[object_id], probabilities[object_id] = self._start(
                    sequence, object_id, images[0], frame
                )
            for t in range(frame, stop):
                of_frame = {object_id: p[t - frame] for object_id, p in probabilities.items()}
                yield sequence.frame_names[t], merge_objects(of_frame, sequence.size)
            frame = stop
        self.timing.diverged = sum(track.diverged for track in tracks.values())

    def segment_frames(
        self, frames: Array | Iterable[Array], mask: Array | Mapping[int, Array]
    ) -> Iterator[Tensor]:
        """Yield the label map uint8 [H, W], on the CPU, of every frame of a video in memory, in order.

        frames: RGB, uint8 or float in 0..1, [T, H, W, 3] or [T, 3, H, W], or a list of T frames. mask: whole
        numbers [H, W] of the first frame, or a dict of such masks by index of frame. See `ArraySequence`,
        whose UserErrors are raised at once.
        """
        sequence = ArraySequence(frames, mask)
        return (labels for _, labels in self.segment(sequence))

    def _image(self, sequence: VideoSequence, frame: int) -> Tensor:
        return sequence.checked_image(frame).to(self.device).float() / 255

    def _chunk_end(
        self, sequence: VideoSequence, firsts: dict[int, int], tracks: dict[int, ObjectTrack], frame: int
    ) -> int:
        """The first frame after `frame` before which an object appears or adapts, or a feature batch ends."""
        if frame in firsts.values():
            return frame + 1
        ends = [frame + self.finetune.feature_batch_size, sequence.num_frames]
        ends += [first for first in firsts.values() if first > frame]
        ends += [
            frame + n for track in tracks.values() if (n := track.frames_until_adaptation(frame)) is not None
        ]
        return min(ends)

    def _start(
        self, sequence: VideoSequence, object_id: int, image: Tensor, frame: int
    ) -> tuple[ObjectTrack, Tensor]:
        labels = sequence.checked_mask(frame)
        assert labels is not None, "first_frame names an annotated frame"
        mask = object_mask(labels, object_id).to(self.device)
        started = self._now()
        seed = (self.seed, sequence.name, object_id)
        track = ObjectTrack(self.adapter, self.finetune, image, mask, frame, seed)
        self._count_adaptation(started)
        return track, (mask == 1).float()[None] * ANNOTATED

    def _adapt_online(self, tracks: dict[int, ObjectTrack], frame: int) -> None:
        for track in tracks.values():
            if track.adaptation_due(frame):
                started = self._now()
                track.adapt_online(frame)
                self._count_adaptation(started)

    def _now(self) -> float:
        """The time in seconds, after a GPU has finished its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _count_adaptation(self, started: float) -> None:
        self.timing.adaptation_seconds += self._now() - started
        self.timing.adaptations += 1

    def _advance(self, tracks: dict[int, ObjectTrack], images: Tensor, frame: int) -> dict[int, Tensor]:
        started = self._now()
        probabilities = {object_id: track.advance(images, frame) for object_id, track in tracks.items()}
        if tracks:
            self.timing.propagation_seconds += self._now() - started
            self.timing.frames += len(images)
        return probabilities
