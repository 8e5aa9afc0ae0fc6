"""What evaluate.py does: segment every test video, write masks and tables, print J and F."""

from itertools import count

from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy

from eosvos.config.training import Config, Trainer
from eosvos.console import console_for_people, say
from eosvos.data.folder import evaluation_only_masks_message
from eosvos.data.splits import Splits, list_videos
from eosvos.evaluation.manifest import results_folder
from eosvos.evaluation.record import record_run
from eosvos.evaluation.records import SequenceRecord
from eosvos.evaluation.scoring import fill_folder, make_row
from eosvos.evaluation.start import with_checkpoint
from eosvos.evaluation.tables import Row, rows_table, sequence_table, write_report
from eosvos.inference.predictor import Predictor
from eosvos.meta.model import Model, build_learner
from eosvos.processes import (
    TIMEOUT,
    broadcast_from_rank_zero,
    is_rank_zero,
    kill_with_rank_zero,
    take_signals_once_connected,
)
from eosvos.setup import device_for, set_up


def evaluate(config: Config, videos: Splits | None = None) -> Row:
    """Segment the test videos, but those that are finished in the results folder; all processes share them.

    videos: what `list_videos` has made of the configuration. Raises UserError for bad input.
    """
    videos = videos or list_videos(config, training=False)
    set_up(config)
    config, loaded = with_checkpoint(config)
    if is_rank_zero():
        record_run(config)
    learner = loaded.learner if loaded else build_learner(Model.of(config), config.seed)
    digest = loaded.digest if loaded else None
    # When all that is wrong with the configuration has been said, by one process.
    connect(config.trainer)
    folder = broadcast_from_rank_zero(lambda: results_folder(config, digest, config.overwrite))
    predictor = Predictor(
        learner.to(device_for(config.trainer.accelerator)), config.finetune, seed=config.seed
    )
    console, number = console_for_people(), count(1)
    if note := evaluation_only_masks_message(videos.test):
        console.print(note, soft_wrap=True)

    def tell(record: SequenceRecord) -> None:
        console.print(f"{next(number)} of {len(videos.test)}: {record.title}", soft_wrap=True)

    records = fill_folder(folder, predictor, videos.test, tell=tell)
    online = ", online adaptation" if config.finetune.online.every else ""
    row = make_row(f"{config.finetune.steps} steps{online}", records)
    if is_rank_zero():
        write_report(config.output, [row])
    say(sequence_table([row]), rows_table([row]), f"Masks and tables: {folder.root}")
    return row


def connect(trainer: Trainer) -> None:
    """Start the processes that share the videos, each of which repeats the command line, and connect them."""
    if trainer.devices == 1:
        return
    strategy = DDPStrategy(timeout=TIMEOUT)
    fabric = Fabric(accelerator=trainer.accelerator, devices=trainer.devices, strategy=strategy)
    kill_with_rank_zero(lambda: getattr(strategy.launcher, "procs", []))
    fabric.launch()
    take_signals_once_connected()
