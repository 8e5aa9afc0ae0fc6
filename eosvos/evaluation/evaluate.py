"""What evaluate.py does: segment every test video, write masks and tables, print J and F."""

from itertools import count

from omegaconf import DictConfig

from eosvos.data.folder import comparing_masks
from eosvos.evaluation.records import SequenceRecord
from eosvos.evaluation.report import ReportRow, report_table, sequence_table, write_report
from eosvos.inference.predictor import Predictor
from eosvos.run.checks import Videos, prepare
from eosvos.run.manifest import results_folder
from eosvos.run.networks import build_learner, device_for, finetune_config, model_config
from eosvos.run.record import record_run
from eosvos.run.scoring import fill_folder
from eosvos.run.train import say, set_up, wide_console, with_checkpoint


def evaluate(cfg: DictConfig, videos: Videos | None = None) -> ReportRow:
    """Segment the test videos, but those that are finished in the results folder.

    videos: what `prepare` has listed, unless it shall be called here. Raises UserError for bad input.
    """
    videos = videos or prepare(cfg, training=False)
    set_up(cfg)
    cfg, loaded = with_checkpoint(cfg)
    record_run(cfg)
    learner = loaded.learner if loaded else build_learner(model_config(cfg), cfg.seed)
    folder = results_folder(cfg, loaded.digest if loaded else None, cfg.overwrite)
    finetune = finetune_config(cfg.finetune)
    predictor = Predictor(learner.to(device_for(cfg.trainer.accelerator)), finetune, seed=cfg.seed)
    console = wide_console()
    number = count(1)
    if note := comparing_masks(videos.test):
        console.print(note, soft_wrap=True)

    def tell(record: SequenceRecord) -> None:
        console.print(f"{next(number)} of {len(videos.test)}: {record.title}", soft_wrap=True)

    records = fill_folder(folder, predictor, videos.test, tell=tell)
    online = ", online adaptation" if finetune.online else ""
    row = ReportRow(f"{finetune.steps} steps{online}", tuple(records))
    write_report(cfg.output, [row])
    say(sequence_table([row]), report_table([row]), f"Masks and tables: {folder.root}")
    return row
