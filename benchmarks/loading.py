"""How fast tasks are prepared, and how long the network waits for them: ratios against its bare forward and
backward passes, in one run.

    uv run benchmarks/loading.py [KEY=VALUE ...]        # the keys of train.py

First CPU milliseconds of what decodes a JPEG of 480 x 854, beside Pillow, which eosvos reads with, and tasks
that one worker prepares in a CPU second, at that size and reduced to 240 pixels. Then the network makes a
pass over each task's support and query frame, reduced to 240 pixels. With workers, reading goes on beside the
network: where there are cores for them, the wait should be next to nothing.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
import torchvision.io
from overhead import bare_pass, load_config
from PIL import Image
from torch import Tensor

from eosvos.config.data import Folder, Synthetic, Tasks
from eosvos.data.datamodule import VOSDataModule
from eosvos.data.folder import folder_sequences
from eosvos.data.pictures import read_image
from eosvos.data.sequence import VideoSequence
from eosvos.data.synthetic import SyntheticVideo
from eosvos.data.task_source import TrainingSet
from eosvos.data.tasks import Task, TaskSampler
from eosvos.evaluation.results import write_labels
from eosvos.meta.learner import MetaLearner
from eosvos.meta.model import Model, build_learner

ITERATIONS = 12
WARM_UP = 4
WORKERS = (0, 1)
ROUNDS = 30


def write_video(folder: Path, frames: int = 20) -> None:
    """A video as files: JPEG frames and palette masks."""
    video = SyntheticVideo(0, Synthetic(size=[480, 854], num_frames=frames, max_objects=1))
    (folder / "frames").mkdir()
    for t, name in enumerate(video.frame_names):
        Image.fromarray(video.image(t).permute(1, 2, 0).numpy()).save(folder / f"frames/{name}.jpg")
        write_labels(folder / f"masks/{name}.png", video.mask(t))


def read_video(folder: Path, short_side: int | None) -> list[VideoSequence]:
    """The video in a folder, reduced to a shorter side in pixels."""
    images, masks = (str(folder / name) for name in ("frames", "masks"))
    return list(folder_sequences(Folder(images=images, masks=masks, short_side=short_side)))


def channels_first(pixels: np.ndarray) -> Tensor:
    """The tensor [3, H, W] of an image [H, W, 3]."""
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


DECODERS: dict[str, Callable[[Path], Tensor]] = {
    "Pillow": lambda path: channels_first(read_image(path)),
    "cv2": lambda path: channels_first(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)),
    "torchvision": lambda path: torchvision.io.decode_image(str(path), torchvision.io.ImageReadMode.RGB),
}


def cpu_seconds(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median CPU seconds of each of some runs, interleaved."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            started = time.process_time()
            run()
            seconds[name].append(time.process_time() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def print_decoders(path: Path) -> None:
    """Compare the decoders on a file."""
    expected = DECODERS["Pillow"](path).int()
    runs: dict[str, Callable[[], object]] = {name: partial(decode, path) for name, decode in DECODERS.items()}
    for name, seconds in cpu_seconds(runs).items():
        largest = int((DECODERS[name](path).int() - expected).abs().max())
        print(f"{name:12} {1000 * seconds:6.2f} ms a frame, other than Pillow's by {largest} of 255 at most")


def print_tasks_per_second(folder: Path) -> None:
    """Prepare tasks in this process, each another."""
    for short_side in (480, 240):
        sampler = TaskSampler([TrainingSet(read_video(folder, short_side))], Tasks(), 1)
        tasks = map(sampler.sample, range(ROUNDS), [0] * ROUNDS)
        seconds = cpu_seconds({"task": partial(next, tasks)})["task"]
        print(f"{short_side} pixels: {1 / seconds:.1f} tasks in a CPU second of a worker")


def iterate(learner: MetaLearner, batches: Iterable[list[Task]]) -> tuple[float, float]:
    """Train on all batches; seconds of waiting and of passes, per iteration after the warm-up."""
    waiting, passing, batches = [], [], iter(batches)
    while True:
        started = time.perf_counter()
        tasks = next(batches, None)
        if tasks is None:
            return (sum(waiting[WARM_UP:]) / ITERATIONS, sum(passing[WARM_UP:]) / ITERATIONS)
        fetched = time.perf_counter()
        for task in tasks:
            bare_pass(learner, task.support_images, task.support_masks)
            bare_pass(learner, task.query_images, task.query_masks)
        waiting.append(fetched - started)
        passing.append(time.perf_counter() - fetched)


def main() -> None:
    """Measure and print the table."""
    config = load_config(sys.argv[1:])
    torch.set_num_threads(config.threads or 1)
    cv2.setNumThreads(config.threads or 1)
    learner = build_learner(Model.of(config), config.seed)
    with tempfile.TemporaryDirectory() as folder:
        write_video(Path(folder))
        print_decoders(next(Path(folder).glob("frames/*.jpg")))
        print_tasks_per_second(Path(folder))
        train = read_video(Path(folder), 240)
        for workers in WORKERS:
            length, size = WARM_UP + ITERATIONS, config.meta.batch_size
            data = VOSDataModule([TrainingSet(train)], [], [], Tasks(), length, size, num_workers=workers)
            wait, passes = iterate(learner, data.train_dataloader())
            print(f"{workers} workers: {1000 * wait:7.1f} ms of waiting = passes x {wait / passes:.2f}")


if __name__ == "__main__":
    main()
