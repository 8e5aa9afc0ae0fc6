"""How long the network waits for its tasks: ratios against its bare forward and backward passes, in one run.

    uv run benchmarks/loading.py [KEY=VALUE ...]        # the keys of train.py

Frames of 480 x 854 are decoded from JPEG, reduced to 240 pixels and augmented; the network makes a pass over
each task's support and query frame. With workers, reading goes on beside the network: where there are cores
for them, the wait should be next to nothing.
"""

import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from overhead import bare_pass, load_config
from PIL import Image

from eosvos.config.data import Folder, Synthetic, Tasks
from eosvos.data.datamodule import VOSDataModule
from eosvos.data.folder import folder_sequences
from eosvos.data.sequence import VideoSequence
from eosvos.data.synthetic import SyntheticVideo
from eosvos.data.tasks import Task
from eosvos.evaluation.results import write_labels
from eosvos.meta.learner import MetaLearner
from eosvos.meta.model import Model, build_learner

ITERATIONS = 12
WARM_UP = 4
WORKERS = (0, 1)


def write_video(folder: Path, frames: int = 20) -> list[VideoSequence]:
    """A video as files: JPEG frames and palette masks."""
    video = SyntheticVideo(0, Synthetic(size=[480, 854], num_frames=frames, max_objects=1))
    (folder / "frames").mkdir()
    for t, name in enumerate(video.frame_names):
        Image.fromarray(video.image(t).permute(1, 2, 0).numpy()).save(folder / f"frames/{name}.jpg")
        write_labels(folder / f"masks/{name}.png", video.mask(t))
    settings = Folder(images=str(folder / "frames"), masks=str(folder / "masks"), short_side=240)
    return list(folder_sequences(settings))


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
    learner = build_learner(Model.of(config), config.seed)
    with tempfile.TemporaryDirectory() as folder:
        train = write_video(Path(folder))
        for workers in WORKERS:
            length, size = WARM_UP + ITERATIONS, config.meta.batch_size
            data = VOSDataModule(train, [], [], Tasks(), length, size, num_workers=workers)
            wait, passes = iterate(learner, data.train_dataloader())
            print(f"{workers} workers: {1000 * wait:7.1f} ms of waiting = passes x {wait / passes:.2f}")


if __name__ == "__main__":
    main()
