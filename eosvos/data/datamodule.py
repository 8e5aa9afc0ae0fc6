"""The LightningDataModule: tasks for training, whole sequences for validation and test."""

import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial

import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from eosvos.config.data import Tasks
from eosvos.data.mixture import Entry
from eosvos.data.sequence import VideoSequence
from eosvos.data.splits import Videos
from eosvos.data.task_source import TrainingSet
from eosvos.data.tasks import Task, TaskSampler
from eosvos.errors import SHOWN, UserError
from eosvos.processes import rank_and_world_size, take_signals

_log = logging.getLogger(__name__)


class _TaskDataset(Dataset):
    """Maps a meta iteration to the tasks of some slots, and the entries that the sampler has skipped so far.

    An error in a user's file is returned: DataLoader workers would raise it with a traceback in its message.
    """

    def __init__(self, sampler: TaskSampler, slots: Sequence[int]) -> None:
        self._sampler = sampler
        self._slots = slots

    def __getitem__(self, iteration: int) -> tuple[list[Task] | UserError, dict[Entry, str]]:
        try:
            drawn = [self._sampler.sample(iteration, slot) for slot in self._slots]
        except UserError as error:
            return error, self._sampler.skipped
        return drawn, self._sampler.skipped


def _single_threaded_cv2() -> None:
    """Keep OpenCV to one thread: a forked worker would wait forever for the threads of its parent."""
    import cv2

    cv2.setNumThreads(0)


def _start_worker(_: int) -> None:
    """Leave Ctrl-C and SIGTERM to the process that this one reads ahead for."""
    take_signals(signal.SIG_IGN)
    _single_threaded_cv2()


class TaskLoader:
    """Iterates over the lists of tasks of meta iterations `start()` to `iterations` - 1.

    `start` is called when iteration begins, after a checkpoint was loaded; the length is always
    `iterations`, as Lightning also counts those before the checkpoint. `slots`: those of this process.
    """

    def __init__(
        self,
        sampler: TaskSampler,
        slots: Sequence[int],
        iterations: int,
        start: Callable[[], int],
        loader: Callable[..., DataLoader] = DataLoader,
    ) -> None:
        self._dataset = _TaskDataset(sampler, slots)
        self._iterations = iterations
        self._start = start
        self._loader = loader

    def __len__(self) -> int:
        """Return the number of meta iterations, with those already done."""
        return self._iterations

    def __iter__(self) -> Iterator[list[Task] | UserError]:
        """Yield the tasks of each iteration, or the error where a file cannot be read.

        An error that is raised here would leave the other processes waiting for this one.
        """
        _single_threaded_cv2()
        iterations = range(self._start(), self._iterations)
        skipped: dict[Entry, str] = {}
        try:
            for tasks, skipped_so_far in self._loader(self._dataset, sampler=iterations, batch_size=None):
                skipped |= skipped_so_far
                yield tasks
        finally:
            if skipped:
                _log.warning("%s", _skipped_message(skipped))


def _skipped_message(skipped: dict[Entry, str]) -> str:
    """Say how many objects training skipped, and which."""
    names = sorted(skipped.values())
    return (
        f"training left out {len(names)} objects that no mask shows: {', '.join(names[:SHOWN])}"
        f"{', ...' * (len(names) > SHOWN)}: correct their masks, or set short_side to more pixels"
    )


class SequenceShard:
    """The sequences of one process: shards do not overlap, and are padded with None to the same length."""

    def __init__(self, sequences: Sequence[VideoSequence], rank: int, world_size: int) -> None:
        own = sequences[rank::world_size]
        self._batches = [*own, *[None] * (-(-len(sequences) // world_size) - len(own))]

    def __len__(self) -> int:
        """Return the number of batches, the same in every process."""
        return len(self._batches)

    def __iter__(self) -> Iterator[VideoSequence | None]:
        """Yield one sequence at a time, or None where this process has none left."""
        return iter(self._batches)


class VOSDataModule(LightningDataModule):
    """Tasks drawn from `train`; whole sequences of `val` and `test`, with a loader for each data set.

    A batch to train on is a list of tasks, or the UserError on a file that could not be read.

    tasks: how tasks are drawn.
    iterations: meta iterations; batch_size: tasks in each, shared out over the processes. num_workers:
    processes that read ahead (0: none), each by prefetch_factor iterations. pin_memory: where there is a GPU.
    all_objects: see `TaskSampler`.
    Raises UserError if the processes cannot share a batch equally.
    """

    def __init__(
        self,
        train: Sequence[TrainingSet],
        val: Videos,
        test: Videos,
        tasks: Tasks,
        iterations: int,
        batch_size: int,
        seed: int = 0,
        num_workers: int = 0,
        prefetch_factor: int = 4,
        pin_memory: bool = True,
        all_objects: bool = False,
    ) -> None:
        super().__init__()
        self.all_objects = all_objects
        self.val, self.test = val, test
        self.iterations, self.batch_size = iterations, batch_size
        self._train, self._tasks, self._seed = train, tasks, seed
        self._loader = partial(
            DataLoader,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor if num_workers else None,
            pin_memory=pin_memory and torch.cuda.is_available(),
            worker_init_fn=_start_worker,
        )

    @cached_property
    def sampler(self) -> TaskSampler:
        """What draws the training tasks; raises UserError if there is nothing to draw from."""
        return TaskSampler(self._train, self._tasks, self.batch_size, self._seed, self.all_objects)

    def train_dataloader(self) -> TaskLoader:
        """Return the loader of this process's slots: rank, rank + world_size, ..."""
        rank, world_size = rank_and_world_size()
        if self.batch_size % world_size:
            raise UserError(
                f"batch_size={self.batch_size} cannot be shared equally by {world_size} processes: "
                "make it a multiple of their number"
            )
        slots = range(rank, self.batch_size, world_size)
        return TaskLoader(self.sampler, slots, self.iterations, self._start_iteration, self._loader)

    def val_dataloader(self) -> list[SequenceShard]:
        """Return this process's shards of the validation sequences."""
        return [SequenceShard(videos, *rank_and_world_size()) for videos in self.val.values()]

    def test_dataloader(self) -> list[SequenceShard]:
        """Return this process's shards of the test sequences."""
        return [SequenceShard(videos, *rank_and_world_size()) for videos in self.test.values()]

    def _start_iteration(self) -> int:
        return int(getattr(self.trainer.lightning_module, "iteration", 0)) if self.trainer else 0
