"""The stages of a training run, each on a Lightning Trainer of its own."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, RichProgressBar
from pytorch_lightning.strategies import DDPStrategy

from eosvos.data.augment import AugmentConfig
from eosvos.data.datamodule import VOSDataModule
from eosvos.meta.learner import MetaLearner
from eosvos.meta.module import MetaModule
from eosvos.meta.parent import ParentModule
from eosvos.processes import kill_with_rank_zero
from eosvos.run.checkpoint import StoreRun, check_resumable
from eosvos.run.checks import Videos, query_weights
from eosvos.run.networks import finetune_config, outer_config, plain
from eosvos.run.saving import BestCheckpoint, Interruption, SaveLast, WholeCheckpoints
from eosvos.run.scoring import Validation
from eosvos.writing import disk_errors

LAST = {"parent": "parent-last.ckpt", "meta": "last.ckpt"}
# How long processes wait for one another: some have longer videos to segment than others.
PATIENCE = timedelta(hours=2)


def data_module(cfg: DictConfig, videos: Videos, stage: str) -> VOSDataModule:
    """Tasks and validation videos of a stage; supervised training cannot tell mixed objects apart."""
    meta = stage == "meta"
    augment = plain(cfg.dataset.augment)
    return VOSDataModule(
        videos.train,
        videos.val,
        videos.test,
        iterations=cfg.iterations if meta else cfg.parent.steps,
        meta_batch=cfg.meta.batch if meta else cfg.parent.batch,
        seed=cfg.seed,
        augment=None if augment is None else AugmentConfig(**augment),
        query_frames=cfg.dataset.query_frames,
        frame_window=cfg.dataset.frame_window,
        mixed=cfg.meta.mixed if meta else 0.0,
        num_workers=cfg.trainer.workers,
    )


def strategy(stage: str) -> DDPStrategy:
    """How several processes train.

    Parent training leaves the rates alone, which DDP has to be told; meta-training adds up gradients itself.
    """
    return DDPStrategy(find_unused_parameters=stage == "parent", timeout=PATIENCE)


def make_trainer(cfg: DictConfig, stage: str, loggers: list[Any], iterations: int) -> pl.Trainer:
    """A Trainer for one stage; leaves checkpoints/{last,best}.ckpt, parent training parent-last.ckpt."""
    every = max(1, min(cfg.val_every, iterations))
    last = Path(cfg.output) / "checkpoints" / LAST[stage]
    callbacks: list[Callback] = [
        StoreRun(cfg, stage),
        Interruption(last),
        SaveLast(last, cfg.trainer.save_minutes),
    ]
    if stage == "meta":
        callbacks.append(BestCheckpoint(last, cfg.checkpoint if cfg.resume else None))
    if cfg.trainer.progress:
        callbacks.append(RichProgressBar(leave=True))
    return pl.Trainer(
        accelerator=cfg.trainer.accelerator,
        devices=cfg.trainer.devices,
        strategy=strategy(stage) if cfg.trainer.devices > 1 else "auto",
        precision=cfg.trainer.precision,
        max_epochs=1,
        val_check_interval=every,
        check_val_every_n_epoch=None,
        limit_val_batches=1.0 if stage == "meta" else 0,
        num_sanity_val_steps=0,
        log_every_n_steps=cfg.trainer.log_every,
        logger=loggers,
        callbacks=callbacks,
        plugins=[WholeCheckpoints()],
        enable_checkpointing=stage == "meta",
        enable_progress_bar=cfg.trainer.progress,
        enable_model_summary=False,
        # Inference mode would forbid fine-tuning while validating.
        inference_mode=False,
        use_distributed_sampler=False,
        default_root_dir=cfg.output,
    )


def parent_training(
    cfg: DictConfig, videos: Videos, learner: MetaLearner, loggers: list[Any], resume: str | None
) -> None:
    """Supervised training of the initial weights, in place.

    resume: the checkpoint of such a stage to go on with.
    """
    module = ParentModule(
        learner, steps=cfg.parent.steps, lr=cfg.parent.lr, decay=cfg.parent.decay, seed=cfg.seed
    )
    _fit(cfg, "parent", module, videos, loggers, resume)


def meta_training(
    cfg: DictConfig, videos: Videos, learner: MetaLearner, loggers: list[Any], resume: str | None
) -> None:
    """Meta-training of weights and rates, in place.

    resume: the checkpoint of such a stage to go on with.
    """
    module = MetaModule(
        learner,
        outer_config(cfg.meta.outer),
        iterations=cfg.iterations,
        query_weights=query_weights(cfg.meta),
        truncate_every=cfg.meta.truncate_every,
        seed=cfg.seed,
        max_failures=cfg.meta.max_failures,
        evaluate=Validation(finetune_config(cfg.finetune), cfg.seed),
    )
    _fit(cfg, "meta", module, videos, loggers, resume)


def _fit(
    cfg: DictConfig,
    stage: str,
    module: pl.LightningModule,
    videos: Videos,
    loggers: list[Any],
    resume: str | None,
) -> None:
    data = data_module(cfg, videos, stage)
    trainer = make_trainer(cfg, stage, loggers, data.iterations)
    launcher = trainer.strategy.launcher
    kill_with_rank_zero(lambda: getattr(launcher, "procs", []))
    if resume is not None:
        check_resumable(Path(resume), trainer, module)
    with disk_errors(f"the logs in {cfg.output}"):
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
