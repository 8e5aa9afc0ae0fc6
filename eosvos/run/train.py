"""What train.py does: parent training, meta-training, report."""

import copy
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning.loggers import WandbLogger
from rich.console import Console

from eosvos.errors import UserError
from eosvos.evaluation.report import ReportRow, report_table, write_report
from eosvos.evaluation.results import differences
from eosvos.meta.learner import MetaLearner
from eosvos.models.weights import read_saved
from eosvos.processes import cores, from_main, interrupt, is_main, take_signals
from eosvos.run.checkpoint import LoadedCheckpoint, digest_of, load_checkpoint, load_learner, run_settings
from eosvos.run.checks import FREE, Videos, check_agreement, prepare
from eosvos.run.command_line import overridden
from eosvos.run.loggers import start_loggers
from eosvos.run.manifest import results_folder
from eosvos.run.networks import build_learner, device_for, finetune_config, model_config
from eosvos.run.record import record_run
from eosvos.run.report import Comparison, compare
from eosvos.run.saving import go_on, save_whole
from eosvos.run.stages import LAST, meta_training, parent_training

START = "start.pt"
# Warnings of libraries about what is meant to be as it is.
NOISE = (
    r".*module\(s\) in eval mode",  # segmenters set their modes themselves
    r"Checkpoint directory .* exists",  # parent and meta stage share it
    r"Experiment logs directory .* exists",  # keep_log has saved what would be deleted
    r".*does not have many workers",  # tiny networks need none
    r"The dirpath has changed",  # a resumed run writes into a folder of its own
    r"You're resuming from a checkpoint that ended before the epoch",  # tasks depend on the iteration alone
    r"You passed in a `val_dataloader` but have no",  # parent training shares the data module
    r"It is recommended to use `self.log",  # validation adds its scores up itself
    r"Detected call of `lr_scheduler\.step",  # iterations without a finite task count, too
    r".*LeafSpec",
)


@dataclass
class TrainResult:
    """What a run has made: the learner, the one that meta-training started from, the report's rows.

    `metrics`: for each row its figures (J, F, J&F, standard errors, seconds), by the row's name.
    """

    learner: MetaLearner
    before: MetaLearner | None
    rows: list[ReportRow]

    @property
    def metrics(self) -> dict[str, dict[str, float | None]]:
        """The report's figures by row."""
        return {row.name: row.figures() for row in self.rows}


def train(cfg: DictConfig, videos: Videos | None = None) -> TrainResult:
    """Run the stages that the configuration asks for, and report; everything goes into the folder cfg.output.

    videos: what `prepare` has listed, unless it shall be called here. Raises UserError for bad input, in good
    time.
    """
    videos = videos or prepare(cfg)
    set_up(cfg)
    cfg, loaded = with_checkpoint(cfg)
    if loaded and cfg.resume:
        check_work_left(cfg, loaded)
    if is_main():
        keep_log(Path(cfg.output))
    loggers = start_loggers(cfg)
    if is_main():
        record_run(cfg)
    learner = loaded.learner if loaded else build_learner(model_config(cfg), cfg.seed)
    stage = loaded.stage if loaded and cfg.resume else None
    resume = {stage: cfg.checkpoint}
    if cfg.parent.steps and stage != "meta":
        parent_training(cfg, videos, learner, loggers, resume.get("parent"))
    before = starting_point(cfg, learner, resumed=stage == "meta")
    if cfg.iterations:
        meta_training(cfg, videos, learner, loggers, resume.get("meta"))
    if not is_main():
        # Now that it is connected, the main process notices its end.
        take_signals(interrupt)
    with resumable(Path(cfg.output) / "checkpoints" / LAST["meta" if cfg.iterations else "parent"]):
        rows = report(cfg, videos, before, learner if cfg.iterations else None)
    if is_main():
        close(loggers)
    return TrainResult(learner, before, rows)


@contextmanager
def resumable(checkpoint: Path) -> Iterator[None]:
    """Add to what ends the block early how to go on, where that checkpoint is there."""
    try:
        yield
    except BaseException as error:
        if checkpoint.is_file():
            error.add_note(go_on(checkpoint))
        raise


def check_work_left(cfg: DictConfig, loaded: LoadedCheckpoint) -> None:
    """Raise UserError if a run that shall be resumed is finished, or longer than it shall become."""
    key, wanted = (
        ("parent.steps", cfg.parent.steps) if loaded.stage == "parent" else ("iterations", cfg.iterations)
    )
    done = f"checkpoint={cfg.checkpoint} has done {loaded.iteration} of {key}={wanted}"
    if loaded.iteration > wanted:
        raise UserError(f"{done}: set {key} to more, or leave resume=true out to start anew from its weights")
    checkpoint = Path(cfg.checkpoint)
    report_file = checkpoint.parent.parent / "report.json"
    # An older one is of the run before it was made longer.
    reported = report_file.is_file() and report_file.stat().st_mtime >= checkpoint.stat().st_mtime
    if loaded.iteration == wanted and reported and (loaded.stage == "meta" or not cfg.iterations):
        raise UserError(
            f"{done}, and {report_file} is written: nothing is left to do; set {key} to more to train on, or "
            f"measure it with evaluate.py checkpoint={cfg.checkpoint}"
        )


def keep_log(output: Path) -> None:
    """Rename the CSV log of an earlier part of the run, which the logger would delete."""
    log = output / "csv" / "metrics.csv"
    if log.is_file():
        parts = len(list(log.parent.glob("metrics*.csv")))
        log.rename(log.with_name(f"metrics-{parts}.csv"))


def close(loggers: list[Any]) -> None:
    """End the runs of W&B, which would go on with the same one in the next run of a sweep."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def set_up(cfg: DictConfig) -> None:
    """Threads, global seed and quiet libraries; raises UserError where there is no such hardware."""
    found = torch.cuda.device_count()
    on_gpus = cfg.trainer.accelerator == "gpu" or (cfg.trainer.accelerator == "auto" and found)
    if on_gpus and found < cfg.trainer.devices:
        raise UserError(
            f"trainer.devices={cfg.trainer.devices} GPUs, but there are {found}: choose trainer=cpu or fewer"
        )
    threads = cfg.threads or max(1, cores() // cfg.trainer.devices)
    # Lightning and the workers look at the variables.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENCV_FOR_THREADS_NUM"] = str(threads)
    torch.set_num_threads(threads)
    torch.manual_seed(cfg.seed)
    for library in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    for noise in NOISE:
        warnings.filterwarnings("ignore", message=noise)
    # Into the run's log, too, which the command line has opened.
    logging.captureWarnings(True)
    # A log on a full disk cannot say so itself.
    logging.raiseExceptions = False
    threading.excepthook = quiet_writers


def quiet_writers(failed: threading.ExceptHookArgs) -> None:
    """Print no traceback of a thread that could not write: TensorBoard keeps the error for its next call."""
    if not isinstance(failed.exc_value, OSError):
        threading.__excepthook__(failed)


def with_checkpoint(cfg: DictConfig) -> tuple[DictConfig, LoadedCheckpoint | None]:
    """Load cfg.checkpoint, if any; returns the configuration with the checkpoint's model in it, too.

    Raises UserError if the command line asks for another model, or to resume a run of other settings.
    """
    if cfg.checkpoint is None:
        return cfg, None
    changes = {key: OmegaConf.select(cfg, key) for key in overridden() if key in FREE}
    loaded = load_checkpoint(Path(cfg.checkpoint), changes=changes)
    merged = copy.deepcopy(cfg)
    with open_dict(merged):
        merged.segmenter = loaded.model["segmenter"]
        merged.backbone = loaded.model["backbone"]
    OmegaConf.update(merged, "meta.rates", loaded.model["rates"])
    merged.meta.order = loaded.model["order"]
    merged.meta.train_encoder = loaded.model["train_encoder"]
    check_agreement(cfg, merged)
    changed = list(differences(loaded.settings, run_settings(merged))) if cfg.resume else []
    if changed:
        raise UserError(
            f"checkpoint={cfg.checkpoint} is of a run with other settings ({'; '.join(changed)}): repeat its "
            "command to resume it, or leave resume=true out to start anew from its weights"
        )
    return merged, loaded


def starting_point(cfg: DictConfig, learner: MetaLearner, resumed: bool) -> MetaLearner | None:
    """A copy of the learner as meta-training finds it.

    A resumed run finds it beside its checkpoint, or not at all (None).
    """
    before = copy.deepcopy(learner)
    path = Path(cfg.output) / "checkpoints" / START
    if resumed:
        there = Path(cfg.checkpoint).parent / START
        if not there.is_file():
            return None
        refusal = f"{there} is broken, remove it to go on without the rows of before"
        load_learner(before, read_saved(there, refusal), refusal)
    if is_main():
        save_whole(path, before.state_dict())
    return before


def report(
    cfg: DictConfig, videos: Videos, before: MetaLearner | None, after: MetaLearner | None
) -> list[ReportRow]:
    """Compare before and after on the test videos, print the table, and write it into the run's folder.

    All processes work on it.
    """
    device = device_for(cfg.trainer.accelerator)
    last = Path(cfg.output) / "checkpoints" / LAST["meta"]
    overwrite = cfg.overwrite or cfg.results is None
    folder = from_main(lambda: results_folder(cfg, digest_of(last), overwrite)) if after else None
    comparison = Comparison(
        test=videos.test,
        tuning=videos.tuning,
        finetune=finetune_config(cfg.finetune),
        rates=cfg.report.rates,
        seed=cfg.seed,
        folder=folder,
        strips=cfg.report.strips,
        start="before (parent training)" if cfg.parent.steps else "before",
    )
    console, title = wide_console(), f"{len(videos.test)} videos of dataset.test"
    with console.status(f"Reporting on {title}"):
        rows = compare(before and before.to(device), after and after.to(device), comparison)
    say(report_table(rows, title=title), f"Checkpoints, logs and masks: {cfg.output}")
    if is_main():
        write_report(cfg.output, rows)
    return rows


def say(*parts: Any) -> None:
    """Print tables and lines, and write them into the log file that the command line has opened."""
    files = [
        handler.stream
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.FileHandler) and is_main()
    ]
    for console in (wide_console(), *map(plain_console, files)):
        for part in parts:
            console.print(part, soft_wrap=isinstance(part, str))


def wide_console() -> Console:
    """The terminal; or a wide page, where output goes into a file or a pipe. Only the main process speaks."""
    return plain_console(None, quiet=not is_main())


def plain_console(file: IO[str] | None, quiet: bool = False) -> Console:
    """A console that shows names as they are, with brackets and colons; wide if it is no terminal."""
    console = Console(file=file, quiet=quiet, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = 120
    return console
