"""What the stages of a training run have in common: a Trainer, and the tasks and videos that it is given."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ProgressBar
from pytorch_lightning.strategies import DDPStrategy

from eosvos.config.build import build_a
from eosvos.config.training import Config
from eosvos.data.datamodule import VOSDataModule
from eosvos.data.splits import Splits
from eosvos.evaluation.folders import VALIDATION
from eosvos.processes import TIMEOUT, kill_with_rank_zero
from eosvos.setup import device_for
from eosvos.training.callbacks import (
    BestCheckpoint,
    GracefulStop,
    SaveLast,
    TimeLimit,
    WholeCheckpoints,
)
from eosvos.training.dashboard import Dashboard
from eosvos.training.resume import RunInCheckpoint, check_resumable
from eosvos.writing import disk_errors

Stage = Literal["parent", "meta"]

LAST = {"parent": "parent-last.ckpt", "meta": "last.ckpt"}


def fit(
    config: Config,
    stage: Stage,
    module: pl.LightningModule,
    videos: Splits,
    loggers: list[Any],
    resume: str | None,
) -> None:
    """Train a stage's module; resume: the checkpoint of such a stage to go on with."""
    data = data_module(config, videos, stage)
    trainer = make_trainer(config, stage, loggers, data.iterations, list(videos.val))
    launcher = trainer.strategy.launcher
    kill_with_rank_zero(lambda: getattr(launcher, "procs", []))
    if resume is not None:
        check_resumable(Path(resume), trainer, module, config.trusted)
    with disk_errors(f"the logs in {config.output}"):
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)


def data_module(config: Config, videos: Splits, stage: Stage) -> VOSDataModule:
    """Tasks and validation videos; parent training learns from single frames."""
    meta = stage == "meta"
    all_objects = not meta and config.parent.objects == "all"
    tasks = config.dataset if meta else config.dataset.of_single_frames(all_objects)
    return VOSDataModule(
        videos.train,
        videos.val,
        videos.test,
        tasks,
        iterations=config.iterations if meta else config.parent.steps,
        batch_size=config.meta.batch_size if meta else config.parent.batch_size,
        seed=config.seed,
        num_workers=config.trainer.num_workers,
        all_objects=all_objects,
    )


def make_trainer(
    config: Config, stage: Stage, loggers: list[Any], iterations: int, val_sets: Sequence[str] = ("",)
) -> pl.Trainer:
    """A Trainer for one stage; leaves checkpoints/{last,best}.ckpt, parent training parent-last.ckpt.

    val_sets: the data sets to validate on; of several there is a best-NAME.ckpt each, too.
    """
    settings = config.trainer
    last = Path(config.output) / "checkpoints" / LAST[stage]
    callbacks: list[Callback] = [
        RunInCheckpoint(config, stage),
        GracefulStop(last),
    ]
    if config.minutes_of_stage is not None:
        callbacks.append(TimeLimit(config.minutes_of_stage))
    if stage == "meta":
        resumed_from = config.checkpoint if config.resume else None
        best_of = dict.fromkeys(["", *val_sets])
        callbacks += [BestCheckpoint(last.parent, resumed_from, name) for name in best_of]
        callbacks.append(Dashboard(Path(config.output) / VALIDATION, val_sets))
    more = [build_a(Callback, node) for node in config.callbacks.values()]
    callbacks += [one for one in more if settings.enable_progress_bar or not isinstance(one, ProgressBar)]
    callbacks.append(SaveLast(last, settings.save_minutes))
    # Parent training leaves the inner learning rates alone, which DDP has to be told.
    ddp = DDPStrategy(find_unused_parameters=stage == "parent", timeout=TIMEOUT)
    return pl.Trainer(
        accelerator=device_for(settings.accelerator).type,
        devices=settings.devices,
        strategy=ddp if settings.devices > 1 else "auto",
        precision=settings.precision,
        max_epochs=1,
        val_check_interval=max(1, min(config.val_every, iterations)),
        check_val_every_n_epoch=None,
        limit_val_batches=1.0 if stage == "meta" else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=settings.log_every_n_steps,
        logger=loggers,
        callbacks=callbacks,
        plugins=[WholeCheckpoints()],
        enable_progress_bar=settings.enable_progress_bar,
        enable_model_summary=False,
        # Inference mode would forbid fine-tuning while validating.
        inference_mode=False,
        use_distributed_sampler=False,
        default_root_dir=config.output,
    )
