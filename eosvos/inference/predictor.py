"""Predictor: makes a label map for every frame of a video from its first masks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from eosvos.config.inference import Finetune
from eosvos.data.arrays import Array, ArraySequence
from eosvos.data.sequence import IGNORE, VideoSequence
from eosvos.errors import UserError
from eosvos.inference.finetune import Adapter
from eosvos.inference.timing import Timing
from eosvos.inference.video import VideoPredictor
from eosvos.meta.checkpoint import load_checkpoint


class Predictor:
    """Segments the objects of videos from the frame in which each is first annotated (method, section 7).

    adapter: a learner, which is not changed; everything is computed on its device. seed: fixes, with a
    video's name, everything that is drawn at random. `timing`: of the last video.
    """

    def __init__(self, adapter: Adapter, finetune: Finetune, seed: int = 0) -> None:
        self.adapter = adapter if finetune.fixed_lr is None else adapter.with_fixed_lr(finetune.fixed_lr)
        self.finetune = finetune
        self.seed = seed
        self.timing = Timing()

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path,
        finetune: Finetune | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
        trusted: Sequence[str] = (),
    ) -> Self:
        """A predictor from a checkpoint: what it may be, `trusted`, and errors as in `load_checkpoint`.

        finetune: None: as the checkpoint's own evaluation.
        """
        loaded = load_checkpoint(checkpoint, device, trusted=trusted)
        return cls(loaded.learner, finetune or loaded.finetune, seed)

    def video(self, name: str = "video") -> VideoPredictor:
        """The state of a new video, which takes its frames and masks one after the other."""
        return VideoPredictor(self.adapter, self.finetune, self.seed, name)

    def segment(
        self, sequence: VideoSequence, video: VideoPredictor | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield (frame name, label map uint8 [H, W] on the CPU) for every frame in order.

        Frames before the first annotation are background; where an object is first annotated, it is as the
        annotation shows it, and later annotations do not count. Holds a few frames at a time, whatever the
        sequence's length. video: has taken the first frames, and goes on with those after them. Raises
        UserError if no object is annotated in any frame.
        """
        if not sequence.object_ids:
            raise UserError(f"sequence {sequence.name}: no mask shows an object to segment")
        video = video or self.video(sequence.name)
        self.timing, start = video.timing, video.timing.steps
        frames = video.steps(_with_first_masks(sequence, start))
        yield from zip(sequence.frame_names[start:], frames, strict=True)

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


def _with_first_masks(sequence: VideoSequence, start: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The images of a sequence from frame `start` on, each with a mask of the objects that are first
    annotated there, if any.
    """
    firsts = {object_id: sequence.first_frame(object_id) for object_id in sequence.object_ids}
    for t in range(start, sequence.num_frames):
        starting = [object_id for object_id, first in firsts.items() if first == t]
        mask = sequence.checked_mask(t) if starting else None
        if mask is not None:
            kept = torch.tensor([*starting, IGNORE], dtype=mask.dtype)
            mask = mask.where(torch.isin(mask, kept), 0)
        yield sequence.checked_image(t), mask
