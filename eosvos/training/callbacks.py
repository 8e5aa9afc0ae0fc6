"""When a training run saves, and what it leaves behind when it ends early."""

import io
import math
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.plugins import TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_only

from eosvos.errors import UserError
from eosvos.processes import abort_all_ranks, all_gather, interrupt, take_signals
from eosvos.writing import write_whole

BEST = "best.ckpt"


def save_whole(path: Path, content: Any) -> None:
    """Write what torch.save makes of a value; raises UserError where that fails, what was there stays."""
    # On a full disk torch.save itself would raise a RuntimeError that does not say so.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_whole(path, buffer.getvalue())


def go_on(checkpoint: Path) -> str:
    """A clause: how to go on from a checkpoint."""
    return f"go on with the same command and checkpoint={checkpoint} resume=true"


class WholeCheckpoints(TorchCheckpointIO):
    """How Lightning writes checkpoints: the one before stays until the new one is whole on the disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write it."""
        save_whole(Path(path), checkpoint)


class SaveLast(Callback):
    """Saves the latest state at the end of a stage and, between two iterations, every so many minutes.

    minutes: None for never. Before any checkpoint the loggers write what they hold: no gap lies before it.
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

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the outcome."""
        trainer.save_checkpoint(self.path)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Have the logs written first."""
        for logger in trainer.loggers:
            logger.save()


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
    """Keeps the checkpoint that is best by val/J&F as best.ckpt, and the latest one in `last`.

    resumed_from: the checkpoint that the run goes on from, if any. The best one beside it is taken along, so
    that a resumed run keeps what an uninterrupted one would.
    """

    def __init__(self, last: Path, resumed_from: str | None) -> None:
        super().__init__(
            dirpath=last.parent,
            filename="best",
            monitor="val/J&F",
            mode="max",
            auto_insert_metric_name=False,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        self.last = last
        self.resumed_from = resumed_from

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save; the latest after the best, whose score it holds."""
        super().on_validation_end(trainer, pl_module)
        trainer.save_checkpoint(self.last)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best checkpoint's score over, and the file, if it is still there."""
        there = Path(str(self.resumed_from)).with_name(BEST)
        here = Path(str(self.dirpath)) / BEST
        if state_dict["best_model_score"] is not None and there.is_file():
            if there.resolve() != here:
                rank_zero_only(write_whole)(here, there.read_bytes())
            best = dict.fromkeys(("best_model_path", "kth_best_model_path"), str(here))
            scores = {"best_k_models": {str(here): state_dict["best_model_score"]}}
            super().load_state_dict(state_dict | best | scores | {"dirpath": self.dirpath})
