"""When a training run saves, and what it leaves behind when it ends early."""

import json
import math
import signal
import time
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from pytorch_lightning.callbacks import Callback, Checkpoint, ModelCheckpoint, Timer
from pytorch_lightning.plugins import TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_only

from eosvos.config.command_line import run_mode
from eosvos.errors import UserError
from eosvos.models.weights import save_whole
from eosvos.processes import abort_all_ranks, all_gather, interrupt, take_signals
from eosvos.writing import write_whole


def go_on(checkpoint: Path) -> str:
    """A clause: how to go on from a checkpoint; a job of a sweep finds its own."""
    if run_mode() == RunMode.MULTIRUN:
        return f"go on with the same command and hydra.sweep.dir={HydraConfig.get().sweep.dir}"
    return f"go on with the same command and checkpoint={checkpoint} resume=true"


class WholeCheckpoints(TorchCheckpointIO):
    """How Lightning writes checkpoints: the one before stays until the new one is whole on the disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write it."""
        save_whole(Path(path), checkpoint)


class SaveLast(Checkpoint):
    """Saves the latest state after a validation, at the end of a stage and, between two iterations, every so
    many minutes.

    minutes: None for never. It comes after the callbacks that keep the best checkpoints, whose scores it
    holds; were it no Checkpoint, Lightning would move it before them. Before any checkpoint the loggers write
    what they hold: no gap lies before it.
    """

    def __init__(self, path: Path, minutes: float | None) -> None:
        self.path = path
        self.seconds = math.inf if minutes is None else 60 * minutes
        self._saved = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._saved = time.monotonic()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time by the clock of the main process."""
        due = trainer.is_global_zero and time.monotonic() - self._saved >= self.seconds
        if trainer.strategy.reduce_boolean_decision(due, all=False):
            trainer.save_checkpoint(self.path)
            self._saved = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, with what the best checkpoints are."""
        trainer.save_checkpoint(self.path)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the outcome."""
        trainer.save_checkpoint(self.path)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Have the logs written first."""
        for logger in trainer.loggers:
            logger.save()


class TimeLimit(Timer):
    """Ends a stage, with a validation, after so many minutes of wall clock: those before an interruption and
    those of validations count.

    The module, whose learning rates follow it, knows in `time_spent` what share of them is over. All
    processes go by the clock of the main one.
    """

    def __init__(self, minutes: float) -> None:
        super().__init__(timedelta(minutes=minutes))
        self.seconds = 60 * minutes

    def on_fit_start(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        """Leave a stage whose time is over to `on_train_start`: it ends as any other, with a checkpoint."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock; train no more if an interrupted run has spent all of its time."""
        super().on_train_start(trainer, pl_module)
        self._check_time_remaining(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Tell the module."""
        share = self.time_elapsed() / self.seconds
        cast(Any, pl_module).time_spent = trainer.strategy.broadcast(share)

    def state_dict(self) -> dict[str, Any]:
        """The seconds of training so far, by the name from which Lightning's timer goes on."""
        return {"time_elapsed": {"train": float(self.time_elapsed())}}


class GracefulStop(Callback):
    """Ends training with a checkpoint, between two iterations, when one of the processes cannot go on.

    That is after Ctrl-C and SIGTERM (a second one ends it at once), and where a UserError comes in place of a
    batch or of a validation's result. Any other error leaves a checkpoint, too, if a single process trains.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reason: str | None = None
        self.number: int | None = None
        self.error: str | None = None
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals."""
        self._previous = take_signals(self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.reason:
            interrupt(number, frame)
        self.reason, self.number = f"stopped by {signal.Signals(number).name}", number

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
        """Leave a checkpoint of what was trained, unless the other processes would have to help."""
        training = bool(self._previous)
        self._release()
        # A second signal may come in the middle of a step, but not while validating.
        if training and trainer.world_size == 1 and (trainer.validating or not self.reason):
            trainer.save_checkpoint(self.path)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop after the last iteration, too; give the signals back."""
        self._stop(trainer, self.reason)
        self._release()

    def _stop(self, trainer: pl.Trainer, reason: str | None) -> None:
        """Save and end if any process has a reason to; the main one says it, for all of them."""
        if trainer.strategy.reduce_boolean_decision(reason is not None, all=False):
            said = [(one, number) for one, number in all_gather((reason, self.number)) if one]
            self.reason, self.number = said[0]
            trainer.save_checkpoint(self.path)
            abort_all_ranks(f"{self.reason}; {go_on(self.path)}", self.number)

    def _release(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint that is best by val/J&F as best.ckpt.

    val_set: of several data sets the one by whose val/NAME/J&F it shall be the best, as best-NAME.ckpt.
    resumed_from: the checkpoint that the run goes on from, if any. The best one beside it is taken along, so
    that a resumed run keeps what an uninterrupted one would.
    """

    def __init__(self, folder: Path, resumed_from: str | None, val_set: str = "") -> None:
        super().__init__(
            dirpath=folder,
            filename="-".join(filter(None, ["best", val_set])),
            monitor="/".join(filter(None, ["val", val_set, "J&F"])),
            mode="max",
            auto_insert_metric_name=False,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        self.resumed_from = resumed_from

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the best checkpoint's score into a JSON file beside it, for who would not load it."""
        if trainer.is_global_zero and self.best_model_score is not None:
            score = {str(self.monitor): float(self.best_model_score)}
            write_whole(Path(str(self.dirpath)) / f"{self.filename}.json", json.dumps(score).encode())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best checkpoint's score over, and the file, if it is still there."""
        here = Path(str(self.dirpath)) / f"{self.filename}{self.FILE_EXTENSION}"
        there = Path(str(self.resumed_from)).with_name(here.name)
        if state_dict["best_model_score"] is not None and there.is_file():
            if there.resolve() != here:
                rank_zero_only(write_whole)(here, there.read_bytes())
            best = dict.fromkeys(("best_model_path", "kth_best_model_path"), str(here))
            scores = {"best_k_models": {str(here): state_dict["best_model_score"]}}
            super().load_state_dict(state_dict | best | scores | {"dirpath": self.dirpath})
