"""What evaluate.py does: segment every test video, write masks and tables, print J and F."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from eosvos.evaluation.report import ReportRow, report_table, sequence_table, write_report
from eosvos.evaluation.results import ResultsFolder
from eosvos.inference.predictor import Predictor
from eosvos.run.checks import Videos, prepare
from eosvos.run.networks import build_learner, device_for, finetune_config, model_config, plain
from eosvos.run.record import record_run
from eosvos.run.scoring import score_sequence
from eosvos.run.train import set_up, wide_console, with_checkpoint


def evaluate(cfg: DictConfig, videos: Videos | None = None) -> ReportRow:
    """Segment the test videos, but those that are finished in the results folder.

    videos: what `prepare` has listed, unless it shall be called here. Raises UserError for bad input.
    """
    videos = videos or prepare(cfg, training=False)
    set_up(cfg)
    cfg, loaded = with_checkpoint(cfg)
    record_run(cfg)
    learner = loaded.learner if loaded else build_learner(model_config(cfg), cfg.seed)
    finetune = finetune_config(cfg.finetune)
    manifest = {
        "checkpoint": loaded.digest if loaded else None,
        "model": model_config(cfg),
        "finetune": asdict(finetune),
        "seed": cfg.seed,
    }
    root = Path(cfg.results or Path(cfg.output) / "results")
    folder = ResultsFolder(root, split_name(cfg.dataset.test), manifest, cfg.overwrite)
    predictor = Predictor(learner.to(device_for(cfg.trainer.accelerator)), finetune, seed=cfg.seed)
    records = []
    console = wide_console()
    for i, sequence in enumerate(videos.test, start=1):
        record = folder.finished(sequence.name)
        if record is None:
            strip = root / "overlays" / f"{sequence.name}.png"
            record = score_sequence(predictor, sequence, folder, strip)
        records.append(record)
        console.print(f"{i} of {len(videos.test)}: {sequence.name}", highlight=False)
    row = ReportRow("J and F", tuple(records))
    folder.write_tables(records)
    write_report(cfg.output, [row])
    console.print(sequence_table([row]), report_table([row]))
    return row


def split_name(test: Any) -> str:
    """What the tables are called: the split, the range of synthetic videos, or `all`."""
    values = plain(test)
    return values.get("split") or values.get("range_name") or "all"
