"""Few-shot tasks: one object of one sequence, its support and its query frames (method, section 5)."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Generator, Tensor

from eosvos.config.data import Tasks
from eosvos.data.augment import Frame, augment_task, bernoulli, crop_frame
from eosvos.data.copy_paste import add_objects, copy_paste_frames
from eosvos.data.mixture import Entry, Mixture
from eosvos.data.sequence import IGNORE, VideoSequence
from eosvos.data.task_source import TrainingSet
from eosvos.errors import UserError
from eosvos.seeding import derive_seed

_ATTEMPTS = 20  # at drawing another video for copy-paste augmentation


@dataclass(frozen=True)
class Task:
    """One object of one sequence, S support and Q query frames.

    Images float [S or Q, 3, H, W] in 0..1; masks uint8 [S or Q, H, W] of 0 (background), 1 (object), 255
    (ignore). Every mask shows the object, unless the settings of tasks ask for others; `object_id` is the
    object's, or in a sub-group that of one of them. Masks of parent training hold the ids of all objects.
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


def object_mask(labels: Tensor, *object_ids: int) -> Tensor:
    """Reduce labels uint8 [H, W] to one object, or several as one: 1 there, 255 where to ignore, else 0."""
    # Ten times as fast as torch.isin, for the few objects that a task has.
    shown = reduce(torch.logical_or, (labels == object_id for object_id in object_ids))
    return shown.to(torch.uint8).masked_fill_(labels == IGNORE, IGNORE)


class TaskSampler:
    """Draws task `slot` of meta iteration `iteration` as a pure function of (seed, iteration, slot).

    sets: the data sets that have a turn as `Mixture` says. An entry whose object no mask shows (a small one
    may vanish when frames are reduced) is replaced by the next of its epoch; `skipped` names the object of
    each such entry so far. Distances of frames are those of VideoSequence.frame_numbers. A single video gets
    no copy-paste augmentation. batch_size: tasks in a meta iteration, over all processes. all_objects: masks
    hold the ids of all objects of a frame, as parent training learns them, not that of the task's alone.
    """

    def __init__(
        self,
        sets: Sequence[TrainingSet],
        tasks: Tasks,
        batch_size: int,
        seed: int = 0,
        all_objects: bool = False,
    ) -> None:
        self.batch_size = batch_size
        self.all_objects = all_objects
        self.skipped: dict[Entry, str] = {}
        self._mixture = Mixture(sets, tasks, seed)
        self._tasks = tasks
        self._seed = seed

    def __len__(self) -> int:
        """Return the number of entries of all data sets."""
        return sum(map(len, self._mixture.sources))

    def sample(self, iteration: int, slot: int) -> Task:
        """Draw a task; raises UserError if a file cannot be read or no entry shows its object."""
        for entry in self._mixture.turn(iteration * self.batch_size + slot):
            one, sequence, object_id = found = self._mixture.look_up(entry)
            # Of a group of objects, others may be shown.
            if entry in self.skipped and not self._tasks.object_groups:
                continue
            try:
                return self._task(*found, iteration, slot)
            except _NotShownError:
                self.skipped[entry] = f"{object_id} of {one.title(sequence)}"
        raise UserError(
            f"no mask of {one.name or 'the training data'} shows its object: correct the masks, "
            "or set short_side to more pixels"
        )

    def _task(
        self, one: TrainingSet, sequence: VideoSequence, object_id: int, iteration: int, slot: int
    ) -> Task:
        # A new one for every entry: the draws do not depend on the entries that were tried before.
        generator = Generator().manual_seed(derive_seed(self._seed, "task", iteration, slot))
        objects = _object_group(sequence, object_id, self._tasks.object_groups, generator)
        frames = self._frames(one, sequence, objects, generator, self.all_objects)
        if self._tasks.single_object_videos == "augment" and len(sequence.training_object_ids) == 1:
            frames = self._copy_pasted(frames, one.title(sequence), generator, into_task=True)
        augment = self._tasks.augment
        if augment is not None:
            if augment.copy_paste and bernoulli(augment.copy_paste, generator):
                frames = self._copy_pasted(frames, one.title(sequence), generator)
            frames = augment_task(frames, generator, augment)
        if self._tasks.crop is not None:
            frames = [crop_frame(frame, self._tasks.crop, generator) for frame in frames]
        images, masks = (torch.stack(values) for values in zip(*frames, strict=True))
        masks = _relabelled(masks, self._tasks, generator)
        return Task(
            support_images=images[:1],
            support_masks=masks[:1],
            query_images=images[1:],
            query_masks=masks[1:],
            sequence=one.title(sequence),
            object_id=object_id,
            iteration=iteration,
            slot=slot,
        )

    def _frames(
        self,
        one: TrainingSet,
        sequence: VideoSequence,
        objects: Sequence[int],
        generator: Generator,
        all_objects: bool = False,
    ) -> list[Frame]:
        frames = [
            (
                sequence.checked_image(t).float() / 255,
                labels if all_objects else object_mask(labels, *objects),
            )
            for t, labels in self._draw_frames(one, sequence, objects, generator)
        ]
        # There may be thousands of videos, and the next task is of another.
        sequence.close()
        return frames

    def _copy_pasted(
        self,
        frames: list[Frame],
        title: str,
        generator: Generator,
        into_task: bool | None = None,
    ) -> list[Frame]:
        others = self._other_frames(title, generator)
        if others is None:
            return frames
        if self.all_objects:
            return add_objects(frames, others, generator)
        return copy_paste_frames(frames, others, generator, into_task)

    def _other_frames(self, title: str, generator: Generator) -> list[Frame] | None:
        """Support and query frames of an object of another video; None if no attempt finds one."""
        for _ in range(_ATTEMPTS):
            one, other, object_id = self._mixture.look_up(self._mixture.any_entry(generator))
            if one.title(other) != title:
                with suppress(_NotShownError):
                    return self._frames(one, other, [object_id], generator)
        return None

    def _draw_frames(
        self, one: TrainingSet, sequence: VideoSequence, objects: Sequence[int], generator: Generator
    ) -> list[tuple[int, Tensor]]:
        """Draw the support frame and then the query frames: (t, labels uint8 [H, W])."""
        support = _draw_frame(sequence, objects, sequence.annotated_frames, generator)
        near, window = sequence.annotated_frames, one.window(self._tasks)
        if window is not None:
            number = sequence.frame_numbers
            near = tuple(t for t in near if abs(number[t] - number[support[0]]) <= window)
        return [support] + [
            _draw_frame(sequence, objects, near, generator) for _ in range(self._tasks.query_frames)
        ]


class _NotShownError(Exception):
    """No mask shows the object of a task."""


def _draw_frame(
    sequence: VideoSequence, objects: Sequence[int], candidates: tuple[int, ...], generator: Generator
) -> tuple[int, Tensor]:
    """Draw uniformly among the candidates that show one of the objects, without reading all their masks.

    The first one in a random order that shows it is such a draw. Returns its index and labels uint8 [H, W];
    raises _NotShownError if there is none.
    """
    for i in torch.randperm(len(candidates), generator=generator).tolist():
        labels = sequence.checked_mask(candidates[i])
        if labels is not None and bool((object_mask(labels, *objects) == 1).any()):
            return candidates[i], labels
    raise _NotShownError


def _object_group(sequence: VideoSequence, object_id: int, share: float, generator: Generator) -> list[int]:
    """The object alone, or, with probability `share`, with one to all of the others of its sequence."""
    others = [other for other in sequence.training_object_ids if other != object_id] if share else []
    if not others or not bernoulli(share, generator):
        return [object_id]
    count = 1 + int(torch.randint(len(others), (), generator=generator))
    return [object_id, *(others[i] for i in torch.randperm(len(others), generator=generator)[:count])]


def _relabelled(masks: Tensor, tasks: Tasks, generator: Generator) -> Tensor:
    """Masks [N, H, W] without the object, or with the background in its place, for a share of the tasks."""
    if tasks.no_label and bernoulli(tasks.no_label, generator):
        return masks.where(masks == IGNORE, 0)
    if tasks.label_inversion and bernoulli(tasks.label_inversion, generator):
        return masks.where(masks == IGNORE, 1 - masks)
    return masks
