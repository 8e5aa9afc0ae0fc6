"""The stages of a training run, each on a Lightning Trainer of its own."""

import signal
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, RichProgressBar
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities import rank_zero_only

from eosvos.data.augment import AugmentConfig
from eosvos.data.datamodule import VOSDataModule
from eosvos.errors import UserError
from eosvos.meta.learner import MetaLearner
from eosvos.meta.module import MetaModule
from eosvos.meta.parent import ParentModule
from eosvos.processes import end_all, gathered
from eosvos.run.checkpoint import StoreRun, check_resumable
from eosvos.run.checks import Videos, query_weights
from eosvos.run.networks import finetune_config, outer_config, plain
from eosvos.run.scoring import Validation
from eosvos.writing import write_whole

BEST = "best.ckpt"
LAST = {"parent": "parent-last.ckpt", "meta": "last.ckpt"}
# How long processes wait for one another: some have longer videos to segment than others.
PATIENCE = timedelta(hours=2)


class Interruption(Callback):
    """Ends training with a checkpoint, between two iterations, when one of the processes cannot go on.

    That is after Ctrl-C and SIGTERM (a second one ends it at once), and where a UserError comes in place of a
    batch or of a validation's result. Any other error leaves a checkpoint, too, if a single process trains.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reason: str | None = None
        self.error: str | None = None
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals."""
        self._previous = {
            number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)
        }

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.reason:
            raise KeyboardInterrupt
        self.reason = "stopped by a signal"

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop between two iterations, when a validation that was due is done."""
        if isinstance(batch, UserError):
            self.reason = str(batch)
        self._stop(trainer, self.reason)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Keep the first error in place of a result."""
        if isinstance(outputs, UserError):
            self.error = self.error or str(outputs)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop before what is left of the results counts; a resumed run does not repeat this validation.

        (A signal waits for the results.)
        """
        self._stop(trainer, self.error)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Leave a checkpoint, unless the other processes would have to help."""
        self._release()
        # A second signal may come in the middle of a step, but not while validating.
        if trainer.world_size == 1 and (trainer.validating or not self.reason):
            trainer.save_checkpoint(self.path)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop after the last iteration, too; give the signals back."""
        self._stop(trainer, self.reason)
        self._release()

    def _stop(self, trainer: pl.Trainer, reason: str | None) -> None:
        """Save and end if any process has a reason to; the main one raises UserError, for all of them."""
        if trainer.strategy.reduce_boolean_decision(reason is not None, all=False):
            self.reason = next(filter(None, gathered(reason)))
            trainer.save_checkpoint(self.path)
            end_all(f"{self.reason}; go on with the same command and checkpoint={self.path} resume=true")

    def _release(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint that is best by val/J&F as best.ckpt, and the latest as last.ckpt.

    resumed_from: the checkpoint that the run goes on from, if any. The best one beside it is taken along, so
    that a resumed run keeps what an uninterrupted one would.
    """

    def __init__(self, folder: Path, resumed_from: str | None) -> None:
        super().__init__(
            dirpath=folder,
            filename="best",
            monitor="val/J&F",
            mode="max",
            save_last=True,
            auto_insert_metric_name=False,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        self.resumed_from = resumed_from

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best checkpoint's score over, and the file, if it is still there."""
        there = Path(str(self.resumed_from)).with_name(BEST)
        here = Path(str(self.dirpath)) / BEST
        if state_dict["best_model_score"] is not None and there.is_file():
            if there.resolve() != here:
                rank_zero_only(write_whole)(here, there.read_bytes())
            best = dict.fromkeys(("best_model_path", "kth_best_model_path"), str(here))
            scores = {"best_k_models": {str(here): state_dict["best_model_score"]}}
            place = {"dirpath": self.dirpath, "last_model_path": ""}
            super().load_state_dict(state_dict | best | scores | place)


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
    saving: ModelCheckpoint
    if stage == "meta":
        saving = BestCheckpoint(last.parent, cfg.checkpoint if cfg.resume else None)
    else:
        options = {"filename": last.stem, "every_n_train_steps": every, "enable_version_counter": False}
        saving = ModelCheckpoint(last.parent, **options)
    callbacks: list[Callback] = [
        StoreRun(cfg, stage),
        Interruption(last),
        saving,
    ]
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
    if resume is not None:
        check_resumable(Path(resume), trainer, module)
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    trainer.save_checkpoint(Path(cfg.output) / "checkpoints" / LAST[stage])
