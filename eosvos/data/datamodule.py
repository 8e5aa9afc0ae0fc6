"""The LightningDataModule: tasks for training, whole sequences for validation and test."""

import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import cast

import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from eosvos.data.augment import AugmentConfig
from eosvos.data.pools import TaskPool, sequence_pool
from eosvos.data.sequence import VideoSequence
from eosvos.data.tasks import Task, TaskSampler
from eosvos.errors import SHOWN, UserError
from eosvos.processes import place, take_signals

_log = logging.getLogger(__name__)


class _Draws(Dataset):
    """Maps a meta iteration to the tasks of some slots, and what the sampler has left out so far.

    An error in a user's file becomes a value: DataLoader workers would re-raise it with a traceback as its
    message.
    """

    def __init__(self, sampler: TaskSampler, slots: Sequence[int]) -> None:
        self._sampler = sampler
        self._slots = slots

    def __getitem__(self, iteration: int) -> tuple[list[Task] | UserError, dict[int, str]]:
        try:
            drawn = [self._sampler.sample(iteration, slot) for slot in self._slots]
        except UserError as error:
            return error, self._sampler.left_out
        return drawn, self._sampler.left_out


def _single_threaded_cv2() -> None:
    """More threads fight over the cores; and a forked worker waits for ever for those of its parent."""
    import cv2

    cv2.setNumThreads(0)


def _start_worker(_: int) -> None:
    """Leave Ctrl-C and SIGTERM to the process that this one reads ahead for."""
    take_signals(signal.SIG_IGN)
    _single_threaded_cv2()


class TaskLoader:
    """Iterates over the lists of tasks of meta iterations `start()` to `iterations` - 1.

    `start` is asked when iteration begins, after a checkpoint was loaded; the length is always
    `iterations`, as Lightning counts those before a checkpoint, too. `slots`: those of this process.
    """

    def __init__(
        self,
        sampler: TaskSampler,
        slots: Sequence[int],
        iterations: int,
        start: Callable[[], int],
        loader: Callable[..., DataLoader] = DataLoader,
    ) -> None:
        self._draws = _Draws(sampler, slots)
        self._iterations = iterations
        self._start = start
        self._loader = loader

    def __len__(self) -> int:
        """Return the number of meta iterations, with those already done."""
        return self._iterations

    def __iter__(self) -> Iterator[list[Task] | UserError]:
        """Yield the tasks of each iteration, or the error where a file cannot be read.

        Raised here, it would leave the other processes waiting for this one.
        """
        _single_threaded_cv2()
        iterations = range(self._start(), self._iterations)
        left_out: dict[int, str] = {}
        try:
            for tasks, missed in self._loader(self._draws, sampler=iterations, batch_size=None):
                left_out |= missed
                yield tasks
        finally:
            if left_out:
                _log.warning("%s", _without(left_out))


def _without(left_out: dict[int, str]) -> str:
    """Say how many objects were not trained on, and which."""
    names = sorted(left_out.values())
    return (
        f"training left out {len(names)} objects that no mask shows: {', '.join(names[:SHOWN])}"
        f"{', ...' * (len(names) > SHOWN)}: correct their masks, or give dataset.train.short_side more pixels"
    )


class SequenceShare:
    """The sequences of one process: shares do not overlap, and are filled with None to the same length."""

    def __init__(self, sequences: Sequence[VideoSequence], rank: int, world: int) -> None:
        share = sequences[rank::world]
        self._batches = [*share, *[None] * (-(-len(sequences) // world) - len(share))]

    def __len__(self) -> int:
        """Return the number of batches, the same in every process."""
        return len(self._batches)

    def __iter__(self) -> Iterator[VideoSequence | None]:
        """Yield one sequence at a time, or None where this process has none left."""
        return iter(self._batches)


class VOSDataModule(LightningDataModule):
    """Tasks drawn from `train`; whole sequences of `val` and `test`.

    A batch to train on is a list of tasks, or the UserError on a file that could not be read.

    train: a task pool, or sequences, of which every object becomes an entry. iterations: meta iterations;
    meta_batch: tasks in each, shared out over the processes. seed, augment, query_frames, frame_window,
    mixed: see TaskSampler. num_workers: processes that read ahead (0: none), each by `prefetch` iterations.
    pin_memory: where there is a GPU. Raises UserError if the processes cannot share a meta batch equally.
    """

    def __init__(
        self,
        train: TaskPool | Sequence[VideoSequence],
        val: Sequence[VideoSequence],
        test: Sequence[VideoSequence],
        iterations: int,
        meta_batch: int,
        seed: int = 0,
        augment: AugmentConfig | None = None,
        query_frames: int = 1,
        frame_window: int | None = None,
        mixed: float = 0.0,
        num_workers: int = 0,
        prefetch: int = 4,
        pin_memory: bool = True,
    ) -> None:
        super().__init__()
        self.val, self.test = val, test
        self.iterations, self.meta_batch = iterations, meta_batch
        self._train = train
        self._sampler = partial(
            TaskSampler,
            meta_batch=meta_batch,
            augment=augment,
            query_frames=query_frames,
            frame_window=frame_window,
            seed=seed,
            mixed=mixed,
        )
        self._loader = partial(
            DataLoader,
            num_workers=num_workers,
            prefetch_factor=prefetch if num_workers else None,
            pin_memory=pin_memory and torch.cuda.is_available(),
            worker_init_fn=_start_worker,
        )

    @cached_property
    def sampler(self) -> TaskSampler:
        """What draws the training tasks; raises UserError if there is nothing to draw from."""
        return self._sampler(_as_pool(self._train))

    def train_dataloader(self) -> TaskLoader:
        """Return the loader of this process's slots: rank, rank + world, ..."""
        rank, world = place()
        if self.meta_batch % world:
            raise UserError(
                f"meta.batch={self.meta_batch} cannot be shared equally by {world} processes: "
                "make it a multiple of trainer.devices"
            )
        slots = range(rank, self.meta_batch, world)
        return TaskLoader(self.sampler, slots, self.iterations, self._start_iteration, self._loader)

    def val_dataloader(self) -> SequenceShare:
        """Return this process's share of the validation sequences."""
        return SequenceShare(self.val, *place())

    def test_dataloader(self) -> SequenceShare:
        """Return this process's share of the test sequences."""
        return SequenceShare(self.test, *place())

    def _start_iteration(self) -> int:
        return int(getattr(self.trainer.lightning_module, "iteration", 0)) if self.trainer else 0


def _as_pool(source: TaskPool | Sequence[VideoSequence]) -> TaskPool:
    if len(source) == 0 or isinstance(source[0], VideoSequence):
        return sequence_pool(cast("Sequence[VideoSequence]", source))
    return cast("TaskPool", source)
