"""Few-shot tasks: one object of one sequence, its support and its query frames (method, section 5)."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Generator, Tensor

from eosvos.config.data import Tasks
from eosvos.data.augment import Frame, augment_task, bernoulli
from eosvos.data.copy_paste import copy_paste_frames
from eosvos.data.sequence import IGNORE, VideoSequence
from eosvos.data.task_source import TaskSource
from eosvos.errors import UserError
from eosvos.seeding import derive_seed

_ATTEMPTS = 20  # at drawing another video for copy-paste augmentation


@dataclass(frozen=True)
class Task:
    """One object of one sequence, S support and Q query frames.

    Images float [S or Q, 3, H, W] in 0..1; masks uint8 [S or Q, H, W] of 0 (background), 1 (object), 255
    (ignore). Every mask shows the object.
    """

    support_images: Tensor
    support_masks: Tensor
    query_images: Tensor
    query_masks: Tensor
    sequence: str
    object_id: int
    iteration: int
    slot: int

    @property
    def name(self) -> str:
        """The task's object, as "sequence:object_id"."""
        return f"{self.sequence}:{self.object_id}"

    def to(self, device: torch.device | str) -> "Task":
        """Return the task with its tensors on `device`."""
        return self._map(lambda value: value.to(device, non_blocking=True))

    def pin_memory(self) -> "Task":
        """Return the task in page-locked memory, from which copies to a GPU need not wait."""
        return self._map(lambda value: value.pin_memory())

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Task":
        return replace(
            self,
            support_images=function(self.support_images),
            support_masks=function(self.support_masks),
            query_images=function(self.query_images),
            query_masks=function(self.query_masks),
        )


def object_mask(labels: Tensor, object_id: int) -> Tensor:
    """Reduce labels uint8 [H, W] to one object: 1 where it is, 255 where to ignore, else 0."""
    return (labels == object_id).to(torch.uint8).masked_fill_(labels == IGNORE, IGNORE)


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, length: int) -> Tensor:
    generator = Generator().manual_seed(derive_seed(seed, "epoch", epoch))
    return torch.randperm(length, generator=generator)


class TaskSampler:
    """Draws task `slot` of meta iteration `iteration` as a pure function of (seed, iteration, slot).

    Epochs are permutations of the task source. An entry whose object no mask shows (a small one may vanish
    when frames are reduced) is replaced by the next of its epoch; `skipped` names the object of each such
    entry so far. Distances of frames are those of VideoSequence.frame_numbers. A source of one video gets no
    copy-paste augmentation. batch_size: tasks in a meta iteration, over all processes.
    """

    def __init__(self, source: TaskSource, tasks: Tasks, batch_size: int, seed: int = 0) -> None:
        self.batch_size = batch_size
        self.skipped: dict[int, str] = {}
        self._source = source
        self._tasks = tasks
        self._seed = seed

    def sample(self, iteration: int, slot: int) -> Task:
        """Draw a task; raises UserError if a file cannot be read or no entry shows its object."""
        for entry in self._entries(iteration, slot):
            try:
                return self._task(entry, iteration, slot)
            except _NotShownError as error:
                self.skipped[entry] = str(error)
        raise UserError(
            "no mask of the training data shows its object: correct the masks, "
            "or set short_side to more pixels"
        )

    def _entries(self, iteration: int, slot: int) -> Iterator[int]:
        """The entry of a slot, and then those that replace it if they must, in order."""
        length = len(self._source)
        epoch, position = divmod(iteration * self.batch_size + slot, length)
        order = _permutation(self._seed, epoch, length)
        entries = (int(order[(position + step) % length]) for step in range(length))
        return (entry for entry in entries if entry not in self.skipped)

    def _task(self, entry: int, iteration: int, slot: int) -> Task:
        sequence, object_id = self._source[entry]
        # A new one for every entry: the draws do not depend on the entries that were tried before.
        generator = Generator().manual_seed(derive_seed(self._seed, "task", iteration, slot))
        frames = self._frames(sequence, object_id, generator)
        augment = self._tasks.augment
        if augment is not None:
            if augment.copy_paste and bernoulli(augment.copy_paste, generator):
                others = self._other_frames(sequence, generator)
                frames = copy_paste_frames(frames, others, generator) if others else frames
            frames = augment_task(frames, generator, augment)
        images, masks = (torch.stack(values) for values in zip(*frames, strict=True))
        return Task(
            support_images=images[:1],
            support_masks=masks[:1],
            query_images=images[1:],
            query_masks=masks[1:],
            sequence=sequence.name,
            object_id=object_id,
            iteration=iteration,
            slot=slot,
        )

    def _frames(self, sequence: VideoSequence, object_id: int, generator: Generator) -> list[Frame]:
        return [
            (sequence.checked_image(t).float() / 255, mask)
            for t, mask in self._draw_frames(sequence, object_id, generator)
        ]

    def _other_frames(self, sequence: VideoSequence, generator: Generator) -> list[Frame] | None:
        """Support and query frames of an object of another video; None if no attempt finds one."""
        for _ in range(_ATTEMPTS):
            other, object_id = self._source[int(torch.randint(len(self._source), (), generator=generator))]
            if other.name != sequence.name:
                with suppress(_NotShownError):
                    return self._frames(other, object_id, generator)
        return None

    def _draw_frames(
        self, sequence: VideoSequence, object_id: int, generator: Generator
    ) -> list[tuple[int, Tensor]]:
        """Draw the support frame and then the query frames: (t, mask uint8 [H, W])."""
        support = _draw_frame(sequence, object_id, sequence.annotated_frames, generator)
        near, window = sequence.annotated_frames, self._tasks.frame_window
        if window is not None:
            number = sequence.frame_numbers
            near = tuple(t for t in near if abs(number[t] - number[support[0]]) <= window)
        return [support] + [
            _draw_frame(sequence, object_id, near, generator) for _ in range(self._tasks.query_frames)
        ]


class _NotShownError(Exception):
    """No mask shows the object of a task; the message says which."""


def _draw_frame(
    sequence: VideoSequence, object_id: int, candidates: tuple[int, ...], generator: Generator
) -> tuple[int, Tensor]:
    """Draw uniformly among the candidates that show the object, without reading the masks of all of them.

    The first one in a random order that shows it is such a draw. Returns its index and mask uint8 [H, W];
    raises _NotShownError if there is none.
    """
    for i in torch.randperm(len(candidates), generator=generator).tolist():
        labels = sequence.checked_mask(candidates[i])
        if labels is not None and bool((labels == object_id).any()):
            return candidates[i], object_mask(labels, object_id)
    raise _NotShownError(f"{object_id} of {sequence.name}")
