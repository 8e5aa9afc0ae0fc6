"""What evaluate.py does: segment every test video, write masks and tables, print J and F."""

import os
from collections.abc import Iterator
from itertools import count

from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor

from eosvos.config.checks import only_for_training
from eosvos.config.training import Config, Trainer
from eosvos.console import console_for_people, frames_progress, say
from eosvos.data.folder import evaluation_only_masks_message
from eosvos.data.sequence import VideoSequence
from eosvos.data.splits import Splits
from eosvos.evaluation.folders import checked_videos
from eosvos.evaluation.manifest import open_results
from eosvos.evaluation.official import official_records
from eosvos.evaluation.provenance import record_run
from eosvos.evaluation.records import SequenceRecord
from eosvos.evaluation.results import ResultsFolder
from eosvos.evaluation.scoring import fill_folder, make_row
from eosvos.evaluation.start import learner_for, with_checkpoint
from eosvos.evaluation.submission import write_submission
from eosvos.evaluation.tables import Row, rows_table, sequence_table, write_report
from eosvos.inference.predictor import Predictor
from eosvos.processes import (
    TIMEOUT,
    broadcast_from_rank_zero,
    is_rank_zero,
    kill_with_rank_zero,
    take_signals_once_connected,
)
from eosvos.setup import device_for, set_up


def evaluate(config: Config, videos: Splits | None = None) -> list[Row]:
    """Segment the test videos, but those that are finished in the results folder; all processes share them.

    Returns a row for each data set. videos: what `checked_videos` has made of the configuration. What the
    command line does not set of `finetune` is the checkpoint's; without a command line, the configuration's
    counts. Raises UserError for bad input.
    """
    videos = videos or checked_videos(config, training=False)
    set_up(config)
    if unread := only_for_training():
        say(f"Only train.py reads {', '.join(unread)}")
    config, loaded = with_checkpoint(config, finetune_too=True)
    learner = learner_for(config, loaded)
    digest = loaded.digest if loaded else None
    # When all that is wrong with the configuration has been said, by one process.
    connect(config.trainer)
    folders = broadcast_from_rank_zero(lambda: open_results(config, digest, config.overwrite))
    if is_rank_zero():
        record_run(config)
    predictor = Predictor(
        learner.to(device_for(config.trainer.accelerator)), config.finetune, seed=config.seed
    )
    rows = [evaluate_on(name, test, predictor, folders[name], config) for name, test in videos.test.items()]
    if is_rank_zero():
        write_report(config.output, rows)
    root = os.path.commonpath([folder.root for folder in folders.values()])
    zips = [folder.submission for folder in folders.values()] if config.submission else []
    places = [f"Masks and tables: {root}", *(f"For the evaluation server: {path}" for path in zips)]
    say(sequence_table(rows), rows_table(rows), *places)
    return rows


def evaluate_on(
    name: str, videos: list[VideoSequence], predictor: Predictor, folder: ResultsFolder, config: Config
) -> Row:
    """Segment the videos of a data set, one line each, into its folder; returns their row."""
    console, number = console_for_people(), count(1)
    of_set = f" of {name}" if name else ""
    if note := evaluation_only_masks_message(videos):
        console.print(note, soft_wrap=True)

    def tell(record: SequenceRecord) -> None:
        console.print(f"{next(number)} of {len(videos)}{of_set}: {record.title}", soft_wrap=True)

    def watch(video: VideoSequence, frames: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        shown = config.trainer.enable_progress_bar
        return frames_progress(frames, video.num_frames, video.name) if shown else frames

    records = fill_folder(folder, predictor, videos, tell=tell, watch=watch)
    if config.submission:
        broadcast_from_rank_zero(lambda: write_submission(folder, videos))
    if config.evaluator == "davis2017":
        test = config.dataset.sources[name].test or {}
        records = broadcast_from_rank_zero(lambda: official_records(test, folder, records))
    return make_row(_title(config), records, name)


def _title(config: Config) -> str:
    """What the row of the table is called."""
    online = ", online adaptation" if config.finetune.online.every else ""
    scored = ", scored by davis2017" if config.evaluator == "davis2017" else ""
    return f"{config.finetune.steps} steps{online}{scored}"


def connect(trainer: Trainer) -> None:
    """Start the processes that share the videos, each of which repeats the command line, and connect them."""
    if trainer.devices == 1:
        return
    strategy = DDPStrategy(timeout=TIMEOUT)
    accelerator = device_for(trainer.accelerator).type
    fabric = Fabric(accelerator=accelerator, devices=trainer.devices, strategy=strategy)
    kill_with_rank_zero(lambda: getattr(strategy.launcher, "procs", []))
    fabric.launch()
    take_signals_once_connected()
